"""Quantization of an ONNX file, apart from what the quantized file computes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Twelve convolutions in a row; the peak of memory above what was there before, in tensors of the large image.
_PEAK = """
import sys
from pathlib import Path
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from segops.export.int8_file import write_int8
from segops.export.onnx_file import INPUT

folder, names = Path(sys.argv[1]), [INPUT, *(f"layer{number}" for number in range(12))]
weight = numpy_helper.from_array(np.full((8, 8, 3, 3), 0.01, np.float32), "weight")
nodes = [helper.make_node("Conv", [given, "weight"], [out], out, pads=[1] * 4) for given, out in zip(names, names[1:])]
ends = (helper.make_tensor_value_info(names[at], TensorProto.FLOAT, [1, 8, "h", "w"]) for at in (0, -1))
graph = helper.make_graph(nodes, "row", [next(ends)], [next(ends)], [weight])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "float.onnx")

def quantized(side):
    images = (np.ones((1, 8, side, side), np.float32) for _ in range(3))
    write_int8(folder / "float.onnx", folder / "int8.onnx", images)

def mib(name):
    return int(Path("/proc/self/status").read_text().split(name)[1].split()[0]) / 1024

quantized(16)
before = mib("VmRSS:")
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
quantized(512)
print((mib("VmHWM:") - before) / 8)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux tells it")
def test_calibrating_holds_few_of_a_networks_tensors_at_once(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", _PEAK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert float(ran.stdout.split()[-1]) < 16  # 11 were seen, and 25 where every tensor is kept
