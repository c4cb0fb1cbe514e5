"""Sets up a training's processes: memory, threads, determinism, devices, and how finely these compute."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import platform
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from segops.errors import UserError
from segops.files import MIB
from segops.training.torchrun import World

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Precision = Literal["fp32", "bf16"]

TERMINATED = 128 + signal.SIGTERM
"""The exit code of a training that SIGTERM ended."""

_FABRIC_PRECISION: dict[Precision, Any] = {"fp32": "32-true", "bf16": "bf16-mixed"}
_USER_ERROR = re.compile(r"^segops\.errors\.UserError: (.*)\Z", re.MULTILINE | re.DOTALL)

# <malloc.h>
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 256 * MIB


def prepare_process(threads: int) -> None:
    """Set the process up for fast and repeatable training. Call it before the first large tensor.

    Args:
        threads: of torch's CPU operators. The same number gives the same bits; another number changes rounding.
    """
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is repeatable only with a fixed workspace
    torch.set_deterministic_debug_mode("warn")  # its other spelling imports torch._inductor: seconds
    # Every tensor here is written before it is read; filling new ones with NaN would cost time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def keep_freed_memory() -> bool:
    """Let glibc keep freed buffers, and say whether it does; another libc is left alone.

    By default each large buffer is mapped from the kernel, zeroed page by page, and handed back at every training step,
    which takes about half of the step. Here nothing is mapped by itself and nothing handed back.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(
        [mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, -1), mallopt(_M_TOP_PAD, _TOP_PAD_BYTES)],
    )


def resolve_precision(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> Precision:
    """Return what `auto` means on this device: bf16 where it is computed natively and faster, else fp32.

    Of AVX512-BF16 that is so on AMD's processors. Intel's without AMX do no more products a second: on Sapphire Rapids
    a step took 1.3 to 1.5 times as long in bf16.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "mps":
        return "fp32"
    capabilities = torch.cpu.get_capabilities()
    by_avx = capabilities.get("avx512_bf16") and "Intel" not in str(capabilities.get("cpu_name"))
    return "bf16" if by_avx or capabilities.get("amx_bf16") else "fp32"


def require_devices(device: torch.device, devices: int) -> None:
    """Raise UserError for more devices than this node has; on the CPU they are processes."""
    world = World.of(os.environ)
    devices = devices if world is None else world.local_size
    available = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device.type, devices)
    if devices > available:
        raise UserError(f"params.yaml: runtime.devices is {devices}, but torch sees {available} of kind {device.type}")


def make_fabric(device: torch.device, devices: int, precision: Precision) -> Fabric:
    """Build Lightning Fabric: a single process, a process per device that it starts, or those that torchrun started.

    Several processes average their gradients (DDP). Those of torchrun have met before, in `torchrun.together`.
    """
    from lightning_fabric import Fabric  # its import takes seconds, which a finished training needn't spend

    from segops.training.ddp import SteadyStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # says at each start which precision it uses
    world, nodes = World.of(os.environ), 1
    start: Literal["popen", "spawn"] = "spawn"
    if world is not None:
        devices, nodes, start = world.local_size, world.size // world.local_size, "popen"
    several = world is not None or devices > 1
    return Fabric(
        accelerator=device.type,
        devices=devices,
        num_nodes=nodes,
        strategy=SteadyStrategy(start) if several else "auto",
        precision=_FABRIC_PRECISION[precision],
    )


def launch(fabric: Fabric, function: Callable[..., None], **arguments: Any) -> None:
    """Run `function(fabric, **arguments)` in each process.

    A process's UserError ends them all and is raised here. SIGTERM is handed to those that are started here.
    """
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

    try:
        with _handing_on():
            fabric.launch(partial(function, **arguments))
    except ProcessExitedException as error:
        if error.exit_code == TERMINATED:
            raise SystemExit(TERMINATED) from None
        raise
    except ProcessRaisedException as error:
        if match := _USER_ERROR.search(str(error).strip()):
            raise UserError(match[1]) from None
        raise


@contextmanager
def _handing_on() -> Iterator[None]:
    """Hand SIGTERM to child processes while there are some; a process without any ends as it would."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)

    def hand_on(number: int, _: FrameType | None) -> None:
        children = multiprocessing.active_children()
        for child in children:
            child.terminate()
        if not children:
            signal.signal(signal.SIGTERM, before)
            signal.raise_signal(number)

    signal.signal(signal.SIGTERM, hand_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a GPU; 0 for other devices, whose memory is the machine's."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0


def put(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a CPU tensor to the device. To a GPU it is copied from pinned memory, so that the CPU needn't wait."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
