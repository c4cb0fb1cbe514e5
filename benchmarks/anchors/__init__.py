"""This project's candidates and other packages' methods on DSB2018 with the same CPU-minutes each.

`python -m benchmarks.anchors --help` says how it is started. `candidates.py` runs ours by their own stages;
`monai_unet`, `smp_unet` and `nnunet` run in an environment that has those packages, and know of this project
`foreign.py` alone; `scores.py` judges all masks by the same functions.
"""
