"""What a process needs before its first tensor: memory, threads, determinism; and how finely a device computes."""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]

# <malloc.h>
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 256 * 2**20


def prepare_process(threads: int) -> None:
    """Set the process up for fast and repeatable training. Call it before the first large tensor.

    Args:
        threads: of torch's CPU operators. The same number gives the same bits; another one changes rounding.
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
    """What `auto` means on this device: bf16 where it is computed natively, else fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    capabilities = torch.cpu.get_capabilities()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"
