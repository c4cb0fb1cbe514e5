"""A candidate's program for other runtimes: ONNX, int8, OpenVINO, TensorRT.

Not a part of `inference/`, on which training depends: a change here trains nothing anew.
"""
