"""What validation during a training measures: without borders, without images in which nothing is to be found."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segops.data.arrays import PreparedData
from segops.data.flat_files import MASKS
from segops.errors import UserError
from segops.params.candidate import CandidateParams
from segops.training.batches.subsets import Subsets, open_subsets
from segops.training.loop import _require_foreground, start
from segops.training.process import make_fabric
from segops.training.state import Row
from segops.training.validation_scores import validate
from tests.support.tiny_prepared import write_prepared

ODDS = 3.0  # log odds of foreground, everywhere
CPU = torch.device("cpu")


def candidate(size: tuple[int, int], resize: str, loss: dict[str, Any]) -> CandidateParams:
    return CandidateParams.model_validate(
        {
            "model": {"architecture": "unet", "base_filters": 4, "depth": 2},
            "input": {"size": size, "resize": resize},
            "recipe": {"loss": loss, "batch_size": 3, "ema_decay": None, "precision": "fp32"},
        }
    )


def opened(prepared: Path, root: Path, params: CandidateParams) -> Subsets:
    return open_subsets(PreparedData.open(prepared), params, root / "cache", device=CPU)


def validated(prepared: Path, root: Path, *, odds: float = ODDS, **given: Any) -> Row:
    """The row of a network that says the same of every pixel."""
    params = candidate(**given)
    task, state, _ = start(make_fabric(CPU, 1, "fp32"), "same", params, opened(prepared, root, params), classes=2)
    with torch.no_grad():
        state.network.output.weight.zero_()
        assert state.network.output.bias is not None
        state.network.output.bias.fill_(odds)
    return validate(task, state)


@pytest.mark.parametrize(
    "loss", [{"name": "bce"}, {"name": "dice", "over": "batch"}, {"name": "boundary_bce", "w0": 0}]
)
def test_borders_of_pad_count_neither_in_scores_nor_in_the_loss(tmp_path: Path, loss: dict[str, Any]) -> None:
    prepared = write_prepared(tmp_path / "prepared")
    # Twice as wide as high: 40x40 has borders left and right, 36x48 smaller ones; at 40x80 the first keeps its pixels.
    row = validated(prepared, tmp_path, size=(40, 80), resize="pad", loss=loss)
    data = PreparedData.open(prepared)
    shares = []
    for index in data.rows("val"):
        height, width = data.mask(index).shape
        columns = round(width * 40 / height)
        seen = np.floor((np.arange(columns) + 0.5) * width / columns).astype(int)
        rows = np.floor((np.arange(40) + 0.5) * height / 40).astype(int)
        shares.append(data.mask(index)[np.ix_(rows, seen)].mean())
    found = np.array(shares)
    assert row["val_precision"] == pytest.approx(found.mean())
    assert row["val_dice"] == pytest.approx((2 * found / (1 + found)).mean())
    chance = 1 / (1 + math.exp(-ODDS))
    if loss["name"] == "dice":
        expected = (1 - 2 * chance * found / (chance + found)).mean()
    else:
        expected = (math.log1p(math.exp(-ODDS)) + (1 - found) * ODDS).mean()
    assert row["val_loss"] == pytest.approx(expected, abs=1e-5)


def empty_masks(prepared: Path, images: list[int]) -> None:
    data = PreparedData.open(prepared)
    with (prepared / MASKS).open("r+b") as file:
        for row in images:
            at = data.index.iloc[row]
            file.seek(int(at["mask_offset"]))
            file.write(bytes(int(at["height"]) * int(at["width"])))


@pytest.mark.parametrize(("odds", "expected"), [(-ODDS, 0.0), (ODDS, None)])
def test_a_network_that_finds_nothing_scores_nothing(tmp_path: Path, odds: float, expected: float | None) -> None:
    prepared = write_prepared(tmp_path / "prepared")
    empty_masks(prepared, PreparedData.open(prepared).rows("val")[1:])
    row = validated(prepared, tmp_path, odds=odds, size=(40, 40), resize="stretch", loss={"name": "bce"})
    data = PreparedData.open(prepared)
    share = data.mask(data.rows("val")[0]).mean()  # 40x40 already
    everything = 2 * share / (1 + share) / 4
    assert row["val_dice"] == pytest.approx(everything if expected is None else expected)
    assert all(math.isfinite(value) for value in row.values())


@pytest.mark.parametrize("resize", ["stretch", "none"])
def test_validation_whose_foreground_vanishes_is_refused_in_one_line(tmp_path: Path, resize: str) -> None:
    prepared = write_prepared(tmp_path / "prepared")
    params = candidate((40, 40), resize, {"name": "bce"})
    _require_foreground("same", params, opened(prepared, tmp_path, params))
    empty_masks(prepared, PreparedData.open(prepared).rows("val"))
    expected = "at input.size 40x40; raise it" if resize == "stretch" else "at all; run split with another seed"
    with pytest.raises(UserError, match=f"candidate same: no validation image has foreground {expected}"):
        _require_foreground("same", params, opened(prepared, tmp_path / "again", params))
