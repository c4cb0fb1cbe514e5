"""Sets nnU-Net v2's own preprocessing beside this project's, on one case: spacing, shape, intensities, mask.

    python -m venv /tmp/nnunet && /tmp/nnunet/bin/pip install nnunetv2
    python benchmarks/nnunet_preprocessing.py --nnunet /tmp/nnunet/bin/python

Drawn patients are written as nnU-Net's raw dataset; nnU-Net plans it and preprocesses a case in its own environment,
and this project plans and resamples the same case by `segops init`'s rules and `data.resampling`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml

from segops.commands.init import InitRequest, init
from segops.data.resampling import Resampling
from segops.data.sources.organs import Organs, draw_scan, encode_nifti, scans
from segops.data.volume_steps import after_steps
from segops.params.volume_steps import VolumeStepsParams
from segops.planning.decisions import Budget

_CASE = 4
_SPACINGS = ((3.5, 1.0, 1.0), (1.6, 1.0, 1.0))  # planes far apart, and near


def main() -> None:
    """Print a row for each base spacing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nnunet", required=True, help="python of the environment that has nnunetv2")
    python = parser.parse_args().nnunet
    print("| base spacing, mm | what | nnU-Net v2 | this project |\n|---|---|---|---|")
    for spacing in _SPACINGS:
        with TemporaryDirectory() as folder:
            compare(Organs(n=12, size=64, depth=24, seed=7, spacing=spacing), Path(folder), python)


def compare(query: Organs, folder: Path, python: str) -> None:
    """Preprocess a case both ways, and print what comes out."""
    cases = [draw_scan(query, *scan) for scan in scans(query.n)]
    write_raw(cases, folder / "raw/Dataset001_Organs")
    script = Path(__file__).with_name("nnunet_case.py")
    subprocess.run([python, str(script), str(folder), f"case_{_CASE:03d}"], check=True, stdout=sys.stderr)
    theirs, plan = np.load(folder / "case.npz"), json.loads((folder / "plans.json").read_text())
    init(InitRequest(str(folder / "raw/Dataset001_Organs"), folder / "params.yaml", Budget(1e6, 8, 2, 1e6)))
    ours = yaml.safe_load((folder / "params.yaml").read_text())["candidates"]["unet_3d"]
    image_DHW, mask_DHW, spacing_mm = cases[_CASE]
    target_mm = tuple(ours["input"]["spacing_mm"])
    standard_DHWC = after_steps(image_DHW[..., None], spacing_mm, VolumeStepsParams(zscore_over="volume"), "case")
    resampling = Resampling.between(image_DHW.shape, spacing_mm, (target_mm[0], target_mm[1], target_mm[2]))
    ours_DHW, our_mask_DHW = resampling.image(standard_DHWC)[..., 0], resampling.mask(mask_DHW)
    data, seg = theirs["data"][0], theirs["seg"][0]
    named = "x".join(f"{value:g}" for value in query.spacing)
    rows = [
        ("target spacing, mm", shown(plan["spacing"]), shown(target_mm)),
        ("shape of the case", shown(data.shape), shown(ours_DHW.shape)),
        ("intensities, mean and deviation", moments(data), moments(ours_DHW)),
        ("patch", shown(plan["patch"]), shown(ours["input"]["size"])),
        ("batch", plan["batch"], ours["recipe"]["batch_size"]),
    ]
    if data.shape == ours_DHW.shape:
        apart = np.abs(data - ours_DHW)
        rows.append(("difference of intensities, largest and mean", "", f"{apart.max():.2g}, {apart.mean():.2g}"))
        differ = np.count_nonzero(seg.clip(0) != our_mask_DHW)
        rows.append(("voxels whose class differs", "", f"{differ} of {seg.size}"))
    for what, left, right in rows:
        print(f"| {named} | {what} | {left} | {right} |")


def write_raw(cases: list[tuple[np.ndarray, np.ndarray, tuple[float, float, float]]], folder: Path) -> None:
    """Write volumes as nnU-Net's raw dataset, MR of one channel."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for number, (image_DHW, mask_DHW, spacing_mm) in enumerate(cases):
        for path, array in ((f"imagesTr/case_{number:03d}_0000", image_DHW), (f"labelsTr/case_{number:03d}", mask_DHW)):
            (folder / f"{path}.nii.gz").write_bytes(gzip.compress(encode_nifti(array, spacing_mm, "LPS"), mtime=0))
    about = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "liver": 1, "kidney": 2},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(about))


def moments(array: np.ndarray) -> str:
    """Write mean and deviation."""
    return f"{array.mean():.4f}, {array.std():.4f}"


def shown(values: object) -> str:
    """Write numbers as AxBxC."""
    return "x".join(f"{value:.4g}" for value in np.asarray(values).tolist())


if __name__ == "__main__":
    main()
