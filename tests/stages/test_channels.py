"""Images of other than one or three channels, and of values in their own units: from files to masks."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from segops.commands.predict import PredictRequest, predict
from segops.contracts.dataset import Dataset
from segops.contracts.volumes import SPACING_COLUMNS
from segops.data.arrays import PreparedData
from segops.data.fit import check_images
from segops.errors import UserError
from segops.params.candidate import CandidateParams
from segops.params.evaluate import EvaluateParams
from segops.params.ingest import IngestParams
from segops.params.input import InputParams
from segops.params.runtime import RuntimeParams
from segops.params.split import SplitParams
from segops.params.tracking import TrackingParams
from segops.params.validate import ValidateParams
from segops.pictures.images import picture
from segops.stages.evaluate import evaluate
from segops.stages.ingest import ingest
from segops.stages.prepare import prepare
from segops.stages.split import split
from segops.stages.train import train
from segops.stages.validate import validate
from tests.support.factories import ingest_params, write_image
from tests.support.mlflow_server import AWAY

CHANNELS = ["_0000", "_0001"]
CLIP = {"percentiles": [0.5, 99.5], "over": "foreground"}


def write_npy(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    np.save(stream, array)
    path.write_bytes(stream.getvalue())


def make_scans(folder: Path, n: int = 18, size: int = 40) -> Path:
    """`imagesTr/case<i>_0000.npy` and `_0001.npy`, int16 about -500 with a bright square; `labelsTr/case<i>.png`."""
    rng = np.random.default_rng(0)
    for i in range(n):
        mask_HW = np.zeros((size, size), np.uint8)
        top, left = rng.integers(4, 16, 2)
        mask_HW[top : top + 18, left : left + 18] = 1
        for channel, ending in enumerate(CHANNELS):
            noise_HW = rng.integers(-100, 100, (size, size))
            hounsfield_HW = noise_HW - 500 + (700 + 50 * channel) * mask_HW.astype(np.int64)
            write_npy(folder / "imagesTr" / f"case{i:02}{ending}.npy", hounsfield_HW.astype(np.int16))
        write_image(folder / "labelsTr" / f"case{i:02}.png", mask_HW)
    return folder


def scan_params(folder: Path, **changes: Any) -> IngestParams:
    given = {"images": "imagesTr", "masks": "labelsTr", "stack": CHANNELS, "mask_values": {0: "air", 1: "body"}}
    return ingest_params(folder, **{**given, **changes})


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two-channel int16 scans: raw, ingested, validated, split and prepared."""
    folder = tmp_path_factory.mktemp("scans")
    ingest(scan_params(make_scans(folder / "raw")), dataset=folder / "dataset")
    checks = ValidateParams.model_validate({"channels": [2], "dtypes": ["int16"]})
    validate(checks, dataset=folder / "dataset", report=folder / "validation")
    params = SplitParams.model_validate({"fractions": [0.5, 0.25, 0.25], "seed": 1})
    split(params, dataset=folder / "dataset", report=folder / "validation", split=folder / "split")
    prepare(dataset=folder / "dataset", split=folder / "split", prepared=folder / "prepared")
    return folder


def test_channels_files_become_one_image(scans: Path) -> None:
    data = PreparedData.open(scans / "prepared")
    raw = scans / "raw" / "imagesTr"
    first = np.dstack([np.load(raw / f"case00{ending}.npy") for ending in CHANNELS])
    np.testing.assert_array_equal(data.image(0), first)
    assert Dataset.load(scans / "dataset").modalities == {"other": 18}
    assert len(data.meta.intensities["2"]) == 2
    assert data.meta.intensities["2"][0].foreground_p50 == pytest.approx(200, abs=20)


def test_a_scan_is_learnt_judged_and_predicted_from_its_channels_files(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    runtime, tracking = RuntimeParams(threads=1, device="cpu"), TrackingParams()
    model = {"architecture": "unet", "base_filters": 4, "depth": 2, "batch_norm": True}
    given = {"size": 33, "channels": 2, "clip": {"percentiles": [0.5, 99.5]}, "normalize": "zscore_dataset"}
    recipe = {"epochs": 8, "batch_size": 3, "ema_decay": None, "learning_rate": 0.01, "precision": "fp32"}
    params = CandidateParams.model_validate({"model": model, "input": given, "recipe": recipe})
    made = train("scan", params, runtime, tracking, prepared=scans / "prepared", model=tmp_path / "model")
    assert made.full_scale == {"int16": 1.0, "float32": 1.0}
    assert made.input_statistics is not None
    assert len(made.input_statistics.mean) == 2

    report = tmp_path / "report"
    judged = evaluate(EvaluateParams(), runtime, prepared=scans / "prepared", model=tmp_path / "model", report=report)
    assert judged.test.dice.mean > 0.8

    inputs = [scans / "raw" / "imagesTr" / f"case00{ending}.npy" for ending in CHANNELS]
    written = predict(
        PredictRequest(str(tmp_path / "model"), runtime, tracking, inputs=inputs, out=tmp_path / "out", overlays=True)
    )
    assert sorted(path.name for path in written) == ["case00.overlay.png", "case00.png"]
    with pytest.raises(UserError, match=r"case00_0000.npy: its channel case00_0001.npy is missing"):
        predict(
            PredictRequest(
                str(tmp_path / "model"), runtime, tracking, inputs=inputs[:1], out=tmp_path / "o", overlays=False
            )
        )
    write_image(tmp_path / "grey.png", np.zeros((40, 40), np.uint8))
    with pytest.raises(UserError, match="can't be read"):
        predict(PredictRequest(
            str(tmp_path / "model"), runtime, tracking, inputs=[tmp_path / "grey.png"], out=tmp_path / "p",
            overlays=False))  # fmt: skip


def test_channels_may_stand_in_folders_of_their_own(tmp_path: Path) -> None:
    make_scans(tmp_path / "raw", n=2)
    for ending, name in zip(CHANNELS, ("ct", "pet"), strict=True):
        for path in (tmp_path / "raw" / "imagesTr").glob(f"*{ending}.npy"):
            target = tmp_path / "raw" / name / path.name.replace(ending, "")
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
    both = scan_params(tmp_path / "raw", images="{channel}/*.npy", masks="labelsTr/*.png", stack=["ct", "pet"])
    assert ingest(both, dataset=tmp_path / "dataset").channels == {"2": 2}


def test_a_table_names_stacks(tmp_path: Path) -> None:
    make_scans(tmp_path / "raw", n=2)
    rows = "image,mask\nimagesTr/case00{channel}.npy,labelsTr/case00.png\nimagesTr/case01.npy,labelsTr/case01.png\n"
    (tmp_path / "raw" / "table.csv").write_text(rows)
    made = ingest(scan_params(tmp_path / "raw", layout="csv"), dataset=tmp_path / "dataset")
    assert made.channels == {"2": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "imagesTr/case01_0001.npy").unlink(), "no file of channel '_0001' beside it"),
        (
            lambda folder: (folder / "imagesTr/case01_0001.npy").rename(folder / "imagesTr/case01_t2.npy"),
            "its stem ends in none of ingest.stack",
        ),
        (
            lambda folder: write_npy(folder / "imagesTr/case01_0001.npy", np.zeros((40, 41), np.int16)),
            "case01_0001.npy: int16 of 40x41 pixels, but imagesTr/case01_0000.npy is int16 of 40x40",
        ),
    ],
)
def test_a_stack_that_does_not_fit_is_one_line(tmp_path: Path, change: Any, message: str) -> None:
    change(make_scans(tmp_path / "raw", n=2))
    with pytest.raises(UserError, match=message):
        ingest(scan_params(tmp_path / "raw"), dataset=tmp_path / "dataset")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layout": "bids", "stack": CHANNELS}, "not with bids"),
        ({"images": "{channel}/*.png"}, "list in stack what it stands for"),
        ({"stack": ["a", "a"]}, "each channel needs a text of its own"),
    ],
)
def test_params_refuse_stacks_that_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IngestParams.model_validate({"source": "raw", **given})


@pytest.mark.parametrize(
    ("channels", "dtype", "given", "message"),
    [
        ([4], ["uint8"], {"channels": 3}, r"net.input.channels is 3, but image 'a' has 4"),
        ([1], ["uint8"], {"channels": 4}, r"net.input.channels is 4, but image 'a' has 1"),
        ([1], ["int16"], {"channels": 1}, r"net.input.clip: image 'a' holds int16 values"),
        ([1, 1], ["int16", "uint8"], {"clip": {"window": [0, 1]}}, "mix uint8, whose full scale is 1, with int16"),
    ],
)
def test_images_that_an_input_cannot_take_are_one_line(
    channels: list[int], dtype: list[str], given: dict[str, Any], message: str
) -> None:
    index = pd.DataFrame({"image_id": ["a", "b"][: len(channels)], "channels": channels, "dtype": dtype, "depth": 1})
    index = index.assign(**dict.fromkeys(SPACING_COLUMNS, np.nan))
    with pytest.raises(UserError, match=message):
        check_images(index, InputParams.model_validate(given), "net")


def test_synthetic_fields_have_as_many_stains_as_asked(tmp_path: Path) -> None:
    made = ingest(ingest_params("synthetic://nuclei?n=4&size=32&seed=0&channels=4"), dataset=tmp_path / "dataset")
    assert (made.channels, made.modalities) == ({"4": 4}, {"other": 4})
    assert made.source == "synthetic://nuclei?n=4&size=32&seed=0&channels=4"


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_a_picture_shows_the_first_three_channels_or_the_first(channels: int, dtype: str) -> None:
    image_HWC = torch.linspace(0, 250, 6 * 7 * channels).numpy().reshape(6, 7, channels).astype(dtype)
    shown = picture(image_HWC)
    assert shown.shape == (6, 7, 3)
    first = picture(image_HWC[..., : 3 if channels >= 3 else 1])
    np.testing.assert_array_equal(shown, first)
