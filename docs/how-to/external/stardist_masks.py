"""StarDist as an external candidate of SegOps: python stardist_masks.py FOLDER/weights_best.h5.

The folder holds config.json and thresholds.json too, as StarDist saves a model and unpacks a pretrained one.
"""

import sys
from pathlib import Path

weights = Path(sys.argv[1])
if not weights.is_file():
    sys.exit(f"{weights}: no such file; unpack a StarDist model, or train one, and name its weights")

import os  # noqa: E402 - the refusal above needn't wait for TensorFlow

os.environ["TF_USE_LEGACY_KERAS"] = "1"
import tifffile  # noqa: E402
from csbdeep.utils import normalize  # noqa: E402
from stardist.models import StarDist2D  # noqa: E402

model = StarDist2D(None, name=weights.parent.name, basedir=str(weights.parent.parent))
model.load_weights(weights.name)
for line in sys.stdin:
    image, mask = line.rstrip("\n").split("\t")
    objects_HW, _ = model.predict_instances(normalize(tifffile.imread(image), 1, 99.8, axis=(0, 1)), verbose=False)
    tifffile.imwrite(mask, objects_HW)
    print("done", flush=True)
