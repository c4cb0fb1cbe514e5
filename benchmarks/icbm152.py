"""Slices against volumes on real MR: tissue of the ICBM 152 average brain, cut into parts.

    pip download nilearn==0.14.1 --no-deps; unzip nilearn-*.whl
    python -m benchmarks.icbm152 FOLDER nilearn/datasets/data [--epochs 10]

nilearn's wheel brings the T1 image, without skull, and the maps of grey and white matter of the symmetric template
2009a (Fonov et al. 2011; an average of 152 adults, 1 mm). Its own licence (BSD-3-Clause) is of nilearn's code, and its
page on the template says "License: unknown". The Montreal Neurological Institute publishes it, in the archive's file
COPYING and at nist.mni.mcgill.ca/?p=904, under "Copyright (C) 1993-2004 Louis Collins, McConnell Brain Imaging Centre,
Montreal Neurological Institute, McGill University. Permission to use, copy, modify, and distribute this software and
its documentation for any purpose and without fee is hereby granted, provided that the above copyright notice appear in
all copies", as it is and without warranty (as projects that redistribute it quote it, such as BrainImAccs/fatbACPC).

A voxel belongs to the tissue that is likeliest there. Of the two equal halves the left is cut into parts of about 35
voxels a side, which share none; each part is a case. Parts of one brain aren't patients: intervals say how parts
differ.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.hippocampus import project, run, write_decathlon
from segops.data.read_changes import ChangeLog
from segops.data.volumes.read import read_volume
from segops.params.file_rules import FileRules

CLASSES = {0: "background", 1: "grey", 2: "white"}
_FILE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
_LICENCE = "MNI (use, copies and changes with its notice)"
_SIDE = 35
_FEWEST = 0.02  # share of a part's voxels that each tissue has


def main() -> None:
    """Cut the brain into cases, run every stage in a folder, and print the scores and the paired difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.environ["DVC_ROOT"] = str(arguments.folder.resolve())
    source = (arguments.folder / "icbm152").resolve()
    write_decathlon(source, parts(arguments.data), CLASSES)
    with contextlib.chdir(arguments.folder):
        params = project(
            source, arguments.epochs, name="icbm152", licence=_LICENCE, classes=CLASSES, patch=(32, 32, 32)
        )
        run(params)


def parts(data: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, image and tissue of each part of the left half that holds both tissues."""
    image_DHW, grey_DHW, white_DHW = (_read(data / _FILE.format(name)) for name in ("t1", "gm", "wm"))
    tissue_DHW = np.argmax([255 - grey_DHW - white_DHW, grey_DHW, white_DHW], axis=0).astype(np.uint8)
    width = tissue_DHW.shape[2]
    inside = np.argwhere(tissue_DHW[:, :, width // 2 :])  # width grows to the patient's left
    shift = np.array([0, 0, width // 2])
    low, high = inside.min(axis=0) + shift, inside.max(axis=0) + shift + 1
    cuts = [np.linspace(a, b, max(2, round((b - a) / _SIDE) + 1)).astype(int) for a, b in zip(low, high, strict=True)]
    for place in np.ndindex(*(len(along) - 1 for along in cuts)):
        box = tuple(slice(along[at], along[at + 1]) for along, at in zip(cuts, place, strict=True))
        if min((tissue_DHW[box] == index).mean() for index in (1, 2)) >= _FEWEST:
            yield "part_" + "_".join(map(str, place)), image_DHW[box].copy(), tissue_DHW[box]


def _read(path: Path) -> np.ndarray:
    """Read a map, DHW int16."""
    files = {path.name: path.read_bytes()}
    image_DHWC, _ = read_volume(files.__getitem__, [(path.name,)], ChangeLog(), FileRules())
    return np.asarray(image_DHWC[..., 0])


if __name__ == "__main__":
    main()
