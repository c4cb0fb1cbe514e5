"""Cellpose 3 or 4 as an external candidate of SegOps: python cellpose_masks.py WEIGHTS."""

import sys
from pathlib import Path

weights = Path(sys.argv[1])
if not weights.is_file():  # Cellpose would download a model of its own instead, without a word
    sys.exit(f"{weights}: no such file; download Cellpose's model, or train one, and name it")

import tifffile  # noqa: E402 - the refusal above needn't wait for torch
import torch  # noqa: E402
from cellpose import models  # noqa: E402

model = models.CellposeModel(gpu=torch.cuda.is_available(), pretrained_model=str(weights))
for line in sys.stdin:
    image, mask = line.rstrip("\n").split("\t")
    objects_HW = model.eval(tifffile.imread(image), channels=[0, 0])[0]  # grey; version 4 takes channels as they are
    tifffile.imwrite(mask, objects_HW)
    print("done", flush=True)
