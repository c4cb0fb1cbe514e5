"""InstanSeg as an external candidate of SegOps: python instanseg_masks.py FOLDER/instanseg.pt [PIXEL_UM].

PIXEL_UM is the images' pixel size: InstanSeg's models expect one, and rescale where it is given. The file is
TorchScript, which is code: run only what you trust.
"""

import sys
from pathlib import Path

weights = Path(sys.argv[1])
pixel_um = float(sys.argv[2]) if len(sys.argv) > 2 else None
if not weights.is_file():  # by a model's name InstanSeg would download it
    sys.exit(f"{weights}: no such file; download an InstanSeg model and name its instanseg.pt")

import numpy as np  # noqa: E402 - the refusal above needn't wait for torch
import tifffile  # noqa: E402
import torch  # noqa: E402
from instanseg import InstanSeg  # noqa: E402

model = InstanSeg(torch.jit.load(str(weights), map_location="cpu"), verbosity=0)
for line in sys.stdin:
    image, mask = line.rstrip("\n").split("\t")
    image_HWC = np.atleast_3d(tifffile.imread(image)).astype(np.float32)
    found_1KHW = model.eval_small_image(image_HWC.transpose(2, 0, 1), pixel_um, return_image_tensor=False)
    tifffile.imwrite(mask, found_1KHW[0, -1].cpu().numpy().astype(np.int32))  # of nuclei and cells the cells
    print("done", flush=True)
