"""The machine that tests see: Python runs this file at its start where its folder is on PYTHONPATH.

So it holds in a test's own process and in every one that it starts. Two environment variables say what is seen:

SEGOPS_TEST_BF16: does the processor compute bf16 natively, which is all that segops asks torch of a processor?
    `absent` (the default), `native`, or `refused`, where asking fails, which shows that no result rests on the answer.
    bf16 itself is computed everywhere.
SEGOPS_TEST_EPOCHS: a file with a number. A process that starts with it trains so many epochs and then stops in the next
    one, after its first step, until the file names a higher number: whatever is done to it meets it there.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

BF16 = "SEGOPS_TEST_BF16"
BF16_ANSWERS = ("absent", "native", "refused")
EPOCHS = "SEGOPS_TEST_EPOCHS"


class _After:
    """Changes modules as soon as they are imported, and imports none itself."""

    def __init__(self, changes: dict[str, Callable[[Any], None]]) -> None:
        self._changes = changes

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in self._changes:
            return None
        from importlib.util import find_spec

        change = self._changes.pop(name)
        spec = find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        run = spec.loader.exec_module

        def run_and_change(module: ModuleType) -> None:
            run(module)
            change(module)

        spec.loader.exec_module = run_and_change  # type: ignore[method-assign]
        return spec


def _answer_for_bf16(cpu: Any) -> None:
    real = cpu.get_capabilities

    def get_capabilities() -> Mapping[str, Any]:
        answer = os.environ.get(BF16, "absent")
        if answer == "refused":
            raise AssertionError("a test's result would rest on the processor: set recipe.precision")
        return {**real(), "avx512_bf16": answer == "native", "amx_bf16": answer == "native"}

    cpu.get_capabilities = get_capabilities


def _stop_after_epochs(passes: Any) -> None:
    ends, allowed, done = passes.Interruption.ends, Path(os.environ[EPOCHS]), 0

    def waiting_ends(interruption: Any, task: Any, step: int) -> Any:
        """Wait after a step; step 0 is an epoch's end. SIGTERM ends the wait, as it ends the training."""
        nonlocal done
        done += step == 0
        while step and done >= int(allowed.read_text()) and not interruption.came:
            time.sleep(0.01)
        return ends(interruption, task, step)

    passes.Interruption.ends = waiting_ends


_CHANGES: dict[str, Callable[[Any], None]] = {"torch.cpu": _answer_for_bf16}
if EPOCHS in os.environ:
    _CHANGES["segops.training.epoch"] = _stop_after_epochs
sys.meta_path.insert(0, _After(_CHANGES))
