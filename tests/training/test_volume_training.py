"""Trainings on volumes: cut off and resumed to the same bits, killed three times, and what slices of volumes are."""

from __future__ import annotations

import signal
import sys
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from segops.contracts.masks import is_foreground
from segops.data.arrays import PreparedData
from segops.data.fit import check_images
from segops.data.slices import SliceData
from segops.errors import UserError
from segops.params.candidate import CandidateParams
from segops.params.input import InputParams, SlicesParams
from segops.params.project import load_params
from segops.params.tracking import TrackingParams
from segops.stages.train import train
from segops.training.batches.seen import as_seen
from segops.training.batches.subsets import open_subsets
from segops.training.loop import Fitted, finished, fit
from segops.training.process import make_fabric, prepare_process
from segops.training.state import Row
from tests.support.machine import AllowedEpochs, started, wait_until
from tests.support.mlflow_server import AWAY
from tests.support.tiny_volumes import prepared_volumes
from tests.support.volume_runs import SLICES, VOLUMES, params_of
from tests.training.test_resume import epochs_done
from tests.training.test_train import same

CPU = torch.device("cpu")
EVERYTHING = {
    "rotate_deg": 20,
    "scale": 0.2,
    "translate": 0.1,
    "affine_probability": 0.7,
    "elastic_px": 1,
    "crop": 0.3,
    "brightness": 0.1,
    "contrast": 0.1,
    "gamma": 0.3,
    "blur_px": 1,
    "noise": 0.1,
    "noise_probability": 0.5,
    "salt_pepper": 0.05,
}
DYNUNET = VOLUMES | {"model": {"architecture": "dynunet", "filters": [4, 4, 8, 8]}}
DYNUNET["input"] = {**VOLUMES["input"], "size": [8, 32, 32]}


def run(params: CandidateParams, root: Path, name: str, cut_off_in: int | None = None) -> Fitted:
    """Fit in a checkpoint folder; `cut_off_in` ends it like Ctrl-C does, between an epoch's validation and its save."""

    def on_epoch(row: Row) -> None:
        if row["epoch"] == cut_off_in:
            raise KeyboardInterrupt

    prepare_process(threads=1)
    data = as_seen(PreparedData.open(root / "prepared"), params.input, root / "cache")
    subsets = open_subsets(data, params, root / "cache", device=CPU)
    fabric = make_fabric(CPU, 1, "fp32")
    fit(fabric, "net", params, subsets, classes=3, checkpoints=root / name, on_epoch=on_epoch)
    fitted = finished(root / name)
    assert fitted is not None
    return fitted


@pytest.mark.parametrize(
    "params",
    [
        params_of(VOLUMES, epochs=4, ema_decay=0.8, augment=EVERYTHING, loss={"name": "bce"}),
        params_of(DYNUNET, epochs=4, optimizer="sgd", schedule={"name": "poly"}, foreground_patches=1.0),
        params_of(SLICES, epochs=4, ema_decay=0.8, loss={"name": "bce"}, augment={"rotate_deg": 20, "elastic_px": 1}),
    ],
    ids=["unet_3d-ema-all-augmentation", "dynunet-deep-supervision", "slices"],
)
def test_a_training_that_was_cut_off_three_times_is_equal(params: CandidateParams, tmp_path: Path) -> None:
    prepared_volumes(tmp_path)
    whole = run(params, tmp_path, "whole")
    for epoch in (1, 2, 4):
        with pytest.raises(KeyboardInterrupt):
            run(params, tmp_path, "cut", cut_off_in=epoch)
    resumed = run(params, tmp_path, "cut")
    assert same(whole.weights, resumed.weights)
    assert whole.history == resumed.history


@pytest.mark.slow
def test_a_process_that_was_killed_three_times_ends_in_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    prepared_volumes(tmp_path / "data")
    knobs = params_of(VOLUMES, epochs=4, ema_decay=0.8, augment=EVERYTHING).model_dump(mode="json")
    given = {
        "runtime": {"threads": 1, "device": "cpu"},
        "ingest": {"source": "unused", "dimensions": 3},
        "candidates": {"net": knobs},
    }
    params_file = tmp_path / "params.yaml"
    params_file.write_text(yaml.safe_dump(given))
    command = [sys.executable, "-c", "from segops.cli.main import main; main()", "train", "net"]
    for epochs in (1, 2, 3):
        environment = AllowedEpochs(tmp_path / "epochs", epochs).environment
        with started(command, tmp_path, environment) as process:
            wait_until(lambda epochs=epochs: epochs_done(tmp_path) == epochs, process)  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL

    def finish(model: Path) -> Any:
        params = load_params(params_file)
        return train(
            "net",
            params.candidates["net"],
            params.runtime,
            TrackingParams(),
            prepared=tmp_path / "data/prepared",
            model=model,
        )

    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    resumed = finish(tmp_path / "resumed")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "elsewhere"))
    whole = finish(tmp_path / "whole")
    assert whole == resumed
    assert (tmp_path / "whole/history.csv").read_bytes() == (tmp_path / "resumed/history.csv").read_bytes()


# ------------------------------------------------------------------------------------------------------ slices


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepared_volumes(tmp_path_factory.mktemp("volumes"))


@pytest.mark.parametrize(("axis", "number"), [("axial", 0), ("coronal", 1), ("sagittal", 2)])
def test_a_slice_is_the_volumes_plane(volumes: PreparedData, axis: Any, number: int) -> None:
    slices = SliceData(volumes, SlicesParams(axis=axis))
    assert len(slices) == 7 * volumes.size(0)[number]  # of eight volumes one is test's
    assert not slices.rows("test")
    for row in (0, 5, len(slices) - 1):
        volume, position = slices.example(row), int(slices.index["image_id"][row].rsplit("_", 1)[1])
        np.testing.assert_array_equal(slices.image(row), volumes.image(volume).take(position, number))
        np.testing.assert_array_equal(slices.mask(row), volumes.mask(volume).take(position, number))
        assert slices.size(row) == slices.mask(row).shape
        assert slices.fold(row) == volumes.fold(volume)
        assert slices.index["group_id"][row] == volumes.index["group_id"][volume]


def test_every_third_slice_and_half_of_the_empty_ones(volumes: PreparedData) -> None:
    slices = SliceData(volumes, SlicesParams(every=3))
    numbers = [int(name.rsplit("_", 1)[1]) for name in slices.index["image_id"]]
    assert numbers[:3] == [1, 4, 7]
    thinned = SliceData(volumes, SlicesParams(empty_share=0.5))
    for row in volumes.rows("train"):
        filled = is_foreground(volumes.mask(row)).any(axis=(1, 2))
        shown = [i for i in range(len(thinned)) if thinned.example(i) == row]
        empty = sum(not is_foreground(thinned.mask(i)).any() for i in shown)
        assert empty == round(0.5 * (~filled).sum())
        assert len(shown) - empty == filled.sum()
    kept = [row for row in thinned.rows("val") if thinned.example(row) == volumes.rows("val")[0]]
    assert len(kept) == volumes.size(0)[0]  # validation keeps all


def test_an_epochs_score_of_slices_is_of_whole_volumes(tmp_path: Path) -> None:
    prepared_volumes(tmp_path)
    params = params_of(SLICES, epochs=1, loss={"name": "bce"})
    data = as_seen(PreparedData.open(tmp_path / "prepared"), params.input, tmp_path / "cache")
    subsets = open_subsets(data, params, tmp_path / "cache", device=CPU)
    assert len(subsets.val) == 2 * 5  # every other of 10 slices
    assert subsets.val_examples == [0] * 5 + [1] * 5


# --------------------------------------------------------------------------------------------- resampled volumes


def test_volumes_at_a_spacing_are_derived_once_and_hold_the_same_body(volumes: PreparedData, tmp_path: Path) -> None:
    seen = as_seen(volumes, InputParams.model_validate(VOLUMES["input"]), tmp_path)
    folders = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert len(folders) == 1
    organs_mm3 = np.zeros(2)
    for row in volumes.rows("train"):
        native_mm, target_mm = volumes.spacing_mm(row), (3.0, 1.5, 1.5)
        assert native_mm is not None
        assert seen.spacing_mm(row) == target_mm
        axes = zip(volumes.size(row), native_mm, target_mm, strict=True)
        assert seen.size(row) == tuple(round(side * mm / target) for side, mm, target in axes)
        assert seen.image(row).dtype == np.float32
        organs_mm3 += [(volumes.mask(row) > 0).sum() * prod(native_mm), (seen.mask(row) > 0).sum() * prod(target_mm)]
    assert organs_mm3[0] == pytest.approx(organs_mm3[1], rel=0.1)
    again = as_seen(volumes, InputParams.model_validate(VOLUMES["input"]), tmp_path)
    np.testing.assert_array_equal(again.image(0), seen.image(0))
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == folders


# ----------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"size": 64, "clip": {"window": [0, 700]}, "channels": 1}, "are volumes; set slices"),
        ({"size": [8, 16, 16], "resize": "none", "channels": 1}, "clip"),
    ],
)
def test_an_input_that_volumes_do_not_fit_is_refused_in_a_line(
    volumes: PreparedData, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        check_images(volumes.index, InputParams.model_validate(given), "net")


def test_an_unknown_spacing_is_refused_where_volumes_are_resampled(volumes: PreparedData) -> None:
    index = volumes.index.assign(spacing_d_mm=float("nan"))
    with pytest.raises(UserError, match=r"'patient-00000_scan-0' says no spacing; set ingest\.spacing_mm"):
        check_images(index, InputParams.model_validate(VOLUMES["input"]), "net")
