"""Finds what in a computation would make the CPU wait for a GPU, on a machine that has none.

torch's own debug mode for this needs CUDA. Here a mode sees every operation, and notes those whose result the host has
to know: values read by `item()`, and shapes that depend on data.
"""

from __future__ import annotations

import traceback
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_WAITING = {
    "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::unique_dim", "aten::_unique2",
    "aten::unique_consecutive", "aten::is_nonzero", "aten::equal", "aten::repeat_interleave.Tensor", "aten::bincount",
}  # fmt: skip


class HostSyncs(TorchDispatchMode):
    """Notes each operation that would wait, with the line of this project from which it came, and all shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and note it if it waits."""
        name = function.overloadpacket._qualified_op_name
        by_mask = name in ("aten::index", "aten::index_put_", "aten::index_put") and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1] or ()
        )
        if name in _WAITING or f"{name}.{function._overloadname}" in _WAITING or by_mask:
            own = [frame for frame in traceback.extract_stack() if "/segops/" in frame.filename]
            where = f"{own[-1].filename.rpartition('/segops/')[2]} {own[-1].line}" if own else "outside"
            self.seen.append(f"{name.removeprefix('aten::')}: {where}")
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.shapes.append(tuple(result.shape))
        return result
