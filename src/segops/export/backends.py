"""The network of a program on another runtime, while windows, resizing and all other steps stay the program's own.

So a large image is predicted in as little memory, and what differs from the scored probabilities is the network's
rounding alone.

Axes: B batch, C channels, K output channels, h, w the network's height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from segops.contracts.backends import PACKAGES, Backends, MeasuredBackend
from segops.errors import UserError
from segops.export.int8_file import saturates, write_int8
from segops.export.onnx_file import write_graph
from segops.export.runtimes import Floats, Run, with_onnx_runtime, with_openvino
from segops.files import sha256_file
from segops.inference.program import Program, SegmentationProgram
from segops.models.blocks import SegmentationNetwork
from segops.params.export import Backend

NETWORK, INT8, ENGINE = "network.onnx", "network.int8.onnx", "network.engine"
FILES: dict[Backend, tuple[str, ...]] = {
    "torch": (),
    "torch-bf16": (),
    "onnx": (NETWORK,),
    "onnx-int8": (INT8,),
    "openvino": (NETWORK,),
    "openvino-bf16": (NETWORK,),
    "openvino-int8": (INT8,),
    "tensorrt": (ENGINE,),
}


class _Probabilities(nn.Module):
    """A network and its activation, which is what another runtime takes over."""

    def __init__(self, network: SegmentationNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame_BChw: Tensor) -> Tensor:
        """Compute probability_BKhw of normalized and padded frames."""
        return self.network.probabilities(self.network(frame_BChw).float())


def lacking(backend: Backend, program: Program) -> str | None:
    """Say why a backend can't run this program here; return None where it can."""
    kind = backend.split("-")[0]
    if backend == "torch":
        return None
    if not isinstance(program, SegmentationProgram):
        return "a mean of several networks, or a network of volumes, runs in torch alone"
    if kind != "torch" and program.tta == "d4" and program.size[0] != program.size[1]:
        return "its views are of two shapes, and a file takes one"
    if kind == "tensorrt" and not torch.cuda.is_available():
        return "needs an NVIDIA GPU, and torch sees none"
    if backend.endswith("int8") and saturates():
        return "this processor has no VNNI, so that sums of int8 saturate"
    package = PACKAGES.get(kind)
    return None if package is None or find_spec(package) else f"needs {package}: pip install 'segops[export]'"


def write_network(program: SegmentationProgram, folder: Path) -> Path:
    """Write the network with its activation as ONNX, for any number of frames of its size; return the file."""
    example = torch.zeros(2, program.channels, *frame_hw(program))
    write_graph(_Probabilities(program.network), example, ({0: torch.export.Dim.DYNAMIC},), folder / NETWORK)
    return folder / NETWORK


def write_int8_network(program: SegmentationProgram, folder: Path, images: Iterator[Tensor]) -> Path:
    """Write the network with convolutions in int8, weights of 8 bits; return the file.

    Args:
        folder: holds what `write_network` wrote.
        images: image_BCHW that calibrate, as the program takes them.
    """
    write_int8(folder / NETWORK, folder / INT8, _frames(program, images), weight_bits=8)
    return folder / INT8


def _frames(program: SegmentationProgram, images: Iterator[Tensor]) -> Iterator[Floats]:
    """Yield the frames that the network sees of images."""
    for image_BCHW in images:
        seen: list[Floats] = []

        def note(frame_BChw: Tensor, seen: list[Floats] = seen) -> Tensor:
            seen.append(np.ascontiguousarray(frame_BChw.numpy()))
            return frame_BChw.new_zeros(len(frame_BChw), 1, *frame_BChw.shape[2:])

        with torch.inference_mode():
            running, program.backend = program.backend, note
            program(image_BCHW)
            program.backend = running
        yield from seen


def frame_hw(program: SegmentationProgram) -> tuple[int, int]:
    """Return height and width of what the network sees: the input's size, padded to the network's multiple."""
    height, width = (-(-side // program.network.multiple) * program.network.multiple for side in program.size)
    return height, width


def runner(backend: Backend, program: SegmentationProgram, folder: Path, threads: int) -> Callable[[Tensor], Tensor]:
    """Return what computes probability_BKhw of frames on a backend, and leave the other threads of torch idle.

    Two pools that wait for work on the same cores hold each other up: with torch's own steps on one thread, 100 images
    took 4.6 CPU seconds instead of 6.6.
    """
    in_torch = backend in ("torch", "torch-bf16")
    torch.set_num_threads(threads if in_torch else 1)
    if in_torch:
        return _in_torch(program, bf16=backend == "torch-bf16")
    path = folder / FILES[backend][0]
    if backend.startswith("onnx"):
        run: Run = with_onnx_runtime(path, threads)
    elif backend.startswith("openvino"):
        precision: Literal["f32", "bf16"] = "bf16" if backend == "openvino-bf16" else "f32"
        run = with_openvino(path, threads, precision=precision, few_shapes=True)
    else:
        from segops.export.tensorrt_file import with_tensorrt

        run = with_tensorrt(path)
    return lambda frame_BChw: torch.from_numpy(run(np.ascontiguousarray(frame_BChw.cpu().numpy()))).to(
        frame_BChw.device
    )


def _in_torch(program: SegmentationProgram, *, bf16: bool) -> Callable[[Tensor], Tensor]:
    """Return the network in torch, in fp32, or in bf16 but for the activation."""
    network: Any = program.network

    def run(frame_BChw: Tensor) -> Tensor:
        with torch.autocast(frame_BChw.device.type, torch.bfloat16, enabled=bf16):
            logits_BKhw = network(frame_BChw.contiguous(memory_format=torch.channels_last))
        probability_BKhw: Tensor = network.probabilities(logits_BKhw.float())
        return probability_BKhw

    return run


def chosen(table: Backends, wanted: str, program: Program) -> MeasuredBackend:
    """Choose a backend from what was measured.

    Args:
        wanted: `auto` takes the fastest that is allowed and runs here.

    Raises: UserError for a backend that isn't known, wasn't measured, loses too much, or doesn't run here.
    """
    if wanted == "auto":
        here = [row for row in table.backends if row.allowed and lacking(row.backend, program) is None]
        return min(here, key=lambda row: row.milliseconds)
    row = next((row for row in table.backends if row.backend == wanted), None)
    if row is None:
        reason = next((skipped.reason for skipped in table.skipped if skipped.backend == wanted), "it wasn't measured")
        raise UserError(f"--backend {wanted}: {reason} (backends.json); export the model anew, or take torch")
    if not row.allowed:
        ap = "" if row.ap_loss is None else f" and {row.ap_loss:.4f} of AP"
        raise UserError(
            f"--backend {wanted}: it lost {row.dice_loss:.4f} of Dice{ap} on validation, where {table.max_dice_loss:g} "
            f"and {table.max_ap_loss:g} are allowed; take another"
        )
    if missing := lacking(row.backend, program):
        raise UserError(f"--backend {wanted}: {missing}")
    return row


def verify(row: MeasuredBackend, folder: Path) -> None:
    """Raise UserError unless a backend's files are those that were measured."""
    for name, sha256 in row.files.items():
        path = folder / name
        if not path.is_file() or sha256_file(path) != sha256:
            raise UserError(f"{path}: not the file that {Backends.FILE} names; export the model anew")


def use(row: MeasuredBackend, program: Program, folder: Path, threads: int) -> None:
    """Let a program's network run on a backend."""
    if row.backend != "torch":
        assert isinstance(program, SegmentationProgram), "`chosen` refuses a mean of networks"
        verify(row, folder)
        program.backend = runner(row.backend, program, folder, threads)
