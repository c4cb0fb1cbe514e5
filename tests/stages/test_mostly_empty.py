"""Noise in which three of four images show nothing: what learnt nothing must not reach a floor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segops.comparison.gate import Evidence, judge
from segops.contracts.evaluation import Evaluation
from segops.contracts.per_image import read_per_image
from segops.contracts.prepared import Prepared
from segops.data.manifest import read_manifest
from segops.errors import UserError
from segops.params.candidate import CandidateParams
from segops.params.evaluate import EvaluateParams
from segops.params.promote import PromoteParams
from segops.params.register import RegisterParams
from segops.params.runtime import RuntimeParams
from segops.params.split import SplitParams
from segops.params.tracking import TrackingParams
from segops.params.validate import ValidateParams
from segops.stages.evaluate import evaluate
from segops.stages.ingest import ingest
from segops.stages.prepare import prepare
from segops.stages.register import missed_floor
from segops.stages.split import _seed_with_foreground, split
from segops.stages.train import train
from segops.stages.validate import validate
from tests.support.factories import ingest_params
from tests.support.mlflow_server import AWAY
from tests.support.small_models import brightness_params, brightness_program, save_candidate
from tests.support.tiny_prepared import name_pixels_anew

RUNTIME = RuntimeParams(threads=1, device="cpu")
EVALUATE = EvaluateParams(gallery_images=1)
SIZE = 32


def write_noise(folder: Path, lesions: list[int], images: int = 40) -> Path:
    """Images of noise; the masks of `lesions` have a square at a place of its own."""
    random = np.random.default_rng(3)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(images):
        mask = np.zeros((SIZE, SIZE), np.uint8)
        if number in lesions:
            top, left = random.integers(2, 24, 2)
            mask[top : top + 6, left : left + 6] = 255
        noise = random.integers(60, 200, (SIZE, SIZE)).astype(np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"{number:02}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:02}.png")
    return folder


def ingested(root: Path, lesions: list[int]) -> Path:
    ingest(ingest_params(write_noise(root / "raw", lesions)), dataset=root / "dataset")
    validate(ValidateParams(), dataset=root / "dataset", report=root / "validation")
    return root


def split_by(seed: int, root: Path) -> None:
    split(SplitParams(seed=seed), dataset=root / "dataset", report=root / "validation", split=root / "split")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = ingested(tmp_path_factory.mktemp("noise"), list(range(0, 40, 4)))
    split_by(3, root)
    prepare(dataset=root / "dataset", split=root / "split", prepared=root / "prepared")
    return root / "prepared"


def refused(report: Path, evaluation: Evaluation) -> bool:
    """Whether the default floors of registration and of the gate, each by itself, refuse it."""
    evidence = Evidence(1, evaluation, read_per_image(report, evaluation.classes))
    gate = judge(PromoteParams(), evidence, None)
    return missed_floor(RegisterParams(), evaluation) is not None and any(check.passed is False for check in gate)


def test_a_training_on_noise_reaches_no_floor(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    recipe = {"epochs": 1, "batch_size": 4, "ema_decay": None, "precision": "fp32"}
    candidate = CandidateParams.model_validate(
        {
            "model": {"architecture": "unet", "base_filters": 4, "depth": 2},
            "input": {"size": SIZE, "channels": 1},
            "recipe": recipe,
            "inference": {"postprocess": {"search": True}},
        }
    )
    model, report = tmp_path / "model", tmp_path / "report"
    trained = train("noise", candidate, RUNTIME, TrackingParams(), prepared=prepared, model=model)
    made = evaluate(EVALUATE, RUNTIME, prepared=prepared, model=model, report=report)
    assert trained.val_dice == pytest.approx(made.val.dice.mean, abs=1e-6)
    assert made.test.dice.mean < 0.3
    assert refused(report, made)


@pytest.mark.parametrize(("answer", "threshold"), [("nothing", 1.0), ("everything", 0.0)])
def test_an_answer_that_ignores_the_image_reaches_no_floor(
    prepared: Path, tmp_path: Path, answer: str, threshold: float
) -> None:
    params, program = brightness_params(SIZE, channels=1), brightness_program(SIZE, channels=1)
    save_candidate(tmp_path / "model", program, params, Prepared.load(prepared), threshold=threshold)
    made = evaluate(EVALUATE, RUNTIME, prepared=prepared, model=tmp_path / "model", report=tmp_path / "report")
    for scores in (made.val, made.test):
        assert 1 <= scores.images_with_foreground <= scores.images / 2
        assert scores.false_positive_share == (0 if answer == "nothing" else 1)
        # The square is 36 of 1,024 pixels: everything has Dice 72 / 1,060 there, and 0 in the other images.
        expected = 0 if answer == "nothing" else 72 / 1060 * scores.images_with_foreground / scores.images
        assert scores.dice.mean == pytest.approx(expected, abs=1e-6)
        assert scores.pooled_dice == pytest.approx(
            0 if answer == "nothing" else 72 * scores.images_with_foreground
            / (36 * scores.images_with_foreground + 1024 * scores.images),
            abs=1e-6,
        )  # fmt: skip
    table = read_per_image(tmp_path / "report", made.classes)
    empty = table["true_positive"] + table["false_negative"] == 0
    assert table.loc[empty, "dice"].isna().all() if answer == "nothing" else (table.loc[empty, "dice"] == 0).all()
    assert refused(tmp_path / "report", made)


def test_a_subset_without_foreground_is_refused_where_it_comes_about(tmp_path: Path) -> None:
    root = ingested(tmp_path, [0, 1, 2, 3])
    with pytest.raises(UserError, match=r"\(4 of 40 have\), so nothing can be judged; set split\.seed: \d+$") as caught:
        for seed in range(20):
            split_by(seed, root)
    split_by(int(str(caught.value).rsplit(" ", 1)[1]), root)  # which the line says
    manifest = read_manifest(root / "dataset")[1].assign(foreground_fraction=[0.1, *[0.0] * 39])
    assert _seed_with_foreground(manifest[manifest["foreground_fraction"] > 0], SplitParams()) is None


def test_an_older_split_without_foreground_is_refused_by_evaluate(prepared: Path, tmp_path: Path) -> None:
    from shutil import copytree

    from segops.data.flat_files import MASKS

    folder = Path(copytree(prepared, tmp_path / "prepared"))
    masks = folder / MASKS
    masks.write_bytes(bytes(masks.stat().st_size))
    params, program = brightness_params(SIZE, channels=1), brightness_program(SIZE, channels=1)
    save_candidate(tmp_path / "model", program, params, name_pixels_anew(folder))
    with pytest.raises(UserError, match="no image of validation has foreground, so nothing can be chosen or judged"):
        evaluate(EVALUATE, RUNTIME, prepared=folder, model=tmp_path / "model", report=tmp_path / "report")
    assert not (tmp_path / "report").exists()
