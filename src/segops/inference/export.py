"""A program as a torch.export graph: one file without pickled code, for any batch, height and width."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from segops.errors import UserError
from segops.files import atomic_path
from segops.inference.program import SegmentationProgram


def export_program(program: SegmentationProgram, example_BCHW: Tensor | None = None) -> ExportedProgram:
    """Trace a program with a dynamic batch, height and width.

    Args:
        program: on the CPU; put into evaluation mode.
        example_BCHW: float32 in [0, 1]; a batch of 2 or more, since torch.export would freeze a batch of 1. Without it,
            noise a little larger than the network's size.
    """
    if example_BCHW is None:
        height, width = program.size
        example_BCHW = torch.rand(2, program.channels, height + 7, width + 5)
    if len(example_BCHW) < 2:
        raise ValueError("export needs an example batch of 2 or more: torch.export freezes a batch of 1")
    sizes = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    with torch.no_grad():
        return torch.export.export(program.eval(), (example_BCHW,), dynamic_shapes=(sizes,))


def save_exported(exported: ExportedProgram, path: Path) -> None:
    """Write a .pt2 file atomically."""
    with atomic_path(path) as partial, partial.open("wb") as file:
        torch.export.save(exported, file)


def load_exported(path: Path) -> ExportedProgram:
    """Read a .pt2 file. Raises UserError when it is missing or another kind of file."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: not a torch.export program; export it again")
    with path.open("rb") as file:
        return torch.export.load(file)
