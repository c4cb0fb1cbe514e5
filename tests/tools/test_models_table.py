"""docs/reference/models.md is the present page, and its figures are right where they can be worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from segops.models.catalogue import ARCHITECTURES
from tools.models_table import ENTRIES, PAGE, measure, replace_tables


def test_every_architecture_has_a_row() -> None:
    networks = [name for name in ARCHITECTURES if name not in ("intensity", "external")]  # which are none
    assert [entry.architecture for entry in ENTRIES] == networks


@pytest.mark.slow
def test_the_page_has_the_present_tables(root: Path) -> None:
    text = (root / PAGE).read_text()
    assert replace_tables(text) == text


def test_work_and_memory_of_the_compact_u_net_are_those_of_its_layers() -> None:
    entry = next(one for one in ENTRIES if one.architecture == "unet_compact")
    found = measure(entry)
    # multiply-adds by pixel of each size: 3x3 convolutions, 2x2 transposed ones, 1x1 output
    full = 9 * (64 + 64 * 64 + 128 * 64 + 64 * 64) + 64 * 128 + 64
    half = 9 * (64 * 128 + 128 * 128 + 256 * 128 + 128 * 128) + 128 * 256
    quarter = 9 * (128 * 256 + 256 * 256)
    work = 2 * 128 * 128 * (full + half / 4 + quarter / 16)
    assert found.gflops == pytest.approx(work / 1e9)
    # floats kept by pixel: image, each ReLU's result, each concatenation; one index (8 bytes) and value a pooled pixel
    floats = (1 + 4 * 64 + 128) + (64 + 4 * 128 + 256) / 4 + (128 + 2 * 256) / 16
    indices = 64 / 4 + 128 / 16
    assert found.kept_mib == pytest.approx(128 * 128 * (4 * floats + 8 * indices) / 2**20, rel=0.02)
