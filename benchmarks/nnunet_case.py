"""Runs nnU-Net v2's own fingerprint, planner and preprocessor: `nnunet_preprocessing.py` calls it in an environment
that has nnU-Net, which this project doesn't.

    python benchmarks/nnunet_case.py FOLDER CASE

FOLDER holds nnU-Net's `raw/Dataset001_Organs`; `case.npz` and `plans.json` are written to it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(folder: Path, case: str) -> None:
    """Plan the dataset and preprocess one case at full resolution."""
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(folder / name)
    import numpy as np
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprint_dataset,
        plan_experiment_dataset,
    )
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    extract_fingerprint_dataset(1, num_processes=1, clean=True, verbose=False)
    plans, _ = plan_experiment_dataset(1)
    manager = PlansManager(plans)
    configuration = manager.get_configuration("3d_fullres")
    raw = folder / "raw/Dataset001_Organs"
    about = json.loads((raw / "dataset.json").read_text())
    images, labels = [str(raw / f"imagesTr/{case}_0000.nii.gz")], str(raw / f"labelsTr/{case}.nii.gz")
    preprocessor = DefaultPreprocessor(verbose=False)
    data, seg, _ = preprocessor.run_case(images, labels, manager, configuration, about)
    np.savez(folder / "case.npz", data=data, seg=seg)
    chosen = {"spacing": configuration.spacing, "patch": configuration.patch_size, "batch": configuration.batch_size}
    (folder / "plans.json").write_text(json.dumps({name: np.asarray(value).tolist() for name, value in chosen.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
