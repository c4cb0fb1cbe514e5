"""The training loop and the train stage, on images of 32 x 32 pixels."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from segops.contracts.model import TrainedModel
from segops.contracts.tables import history_columns
from segops.data.arrays import PreparedData
from segops.errors import UserError
from segops.files import sha256_file
from segops.params.candidate import CandidateParams
from segops.params.inference import InferenceParams, PostprocessParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.stages.train import train
from segops.training import loop
from segops.training.batches.subsets import Subsets, open_subsets
from segops.training.loop import Fitted, finished, fit
from segops.training.process import keep_freed_memory, make_fabric, prepare_process, resolve_precision
from segops.training.state import Row
from tests.support.mlflow_server import AWAY
from tests.support.tiny_prepared import write_prepared

RESUNET = {"architecture": "resunet", "filters": [4, 8]}
UNET = {"architecture": "unet", "base_filters": 4, "depth": 2, "dropout_bottleneck": 0.2}
CONSTANT = {"name": "constant"}


def candidate(model: dict[str, Any] | None = None, size: int = 32, **recipe: Any) -> CandidateParams:
    """A small candidate; BCE by default, since MONAI takes seconds to import."""
    quick = {"epochs": 3, "batch_size": 4, "loss": {"name": "bce"}, "learning_rate": 0.01, "ema_decay": None}
    quick |= {"precision": "fp32"} | recipe
    return CandidateParams.model_validate({"model": model or RESUNET, "input": {"size": size}, "recipe": quick})


def run(
    params: CandidateParams,
    tmp_path: Path,
    name: str = "run",
    *,
    device: str = "cpu",
    on_epoch: Callable[[Row], None] = lambda row: None,
) -> Fitted:
    """Fit in a checkpoint folder of its own, unless that was done."""
    prepare_process(threads=1)
    checkpoints = tmp_path / name
    if (before := finished(checkpoints)) is not None:
        return before
    precision = resolve_precision(params.recipe.precision, torch.device(device))
    fit(
        make_fabric(torch.device(device), 1, precision),
        "tiny",
        params,
        subsets(tmp_path, params, device),
        classes=2,
        checkpoints=checkpoints,
        on_epoch=on_epoch,
    )
    fitted = finished(checkpoints)
    assert fitted is not None
    return fitted


def subsets(tmp_path: Path, params: CandidateParams, device: str = "cpu") -> Subsets:
    folder = tmp_path / "prepared"
    if not folder.exists():
        write_prepared(folder)
    return open_subsets(PreparedData.open(folder), params, tmp_path / "cache", device=torch.device(device))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Equal names and bits."""
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def test_discs_are_learnt(tmp_path: Path) -> None:
    fitted = run(candidate(epochs=12, augment={"rotate_deg": 10, "contrast": 0.1}), tmp_path)
    assert [row["epoch"] for row in fitted.history] == list(range(1, 13))
    assert all(list(row) == history_columns() for row in fitted.history)
    best = fitted.history[fitted.best_epoch - 1]
    assert best["val_dice"] == max(row["val_dice"] for row in fitted.history)
    assert best["val_dice"] > 0.9
    assert best["val_iou"] < best["val_dice"]
    assert fitted.history[-1]["train_loss"] < fitted.history[0]["train_loss"] / 2
    assert fitted.images_per_second is not None


@pytest.mark.parametrize(
    "params",
    [
        candidate(UNET, optimizer="adam", schedule={"name": "plateau"}, monitor="loss", init="torch"),
        candidate(UNET | {"batch_norm": True}, schedule={"name": "cosine"}, ema_decay=0.9, init="glorot"),
        candidate(precision="bf16", channels_last=False, clip_norm=None, augment={"rot90": False}),
        candidate({**RESUNET, "filters": [4, 4, 4]}, size=34, schedule={"name": "step"}, keep="last"),
    ],
    ids=["unet-adam-plateau", "unet-bn-cosine-ema", "bf16-contiguous", "padded-size"],
)
def test_recipes_run_and_a_seed_repeats_them(params: CandidateParams, tmp_path: Path) -> None:
    one, again = (run(params, tmp_path, name) for name in ("one", "again"))
    assert same(one.weights, again.weights)
    assert one.history == again.history
    other = params.model_copy(update={"recipe": params.recipe.model_copy(update={"seed": 1})})
    assert not same(one.weights, run(other, tmp_path, "other").weights)


def test_parts_of_the_loss_are_in_the_history_for_training_and_validation(tmp_path: Path) -> None:
    loss = {"name": "bce_dice", "bce_weight": 0.3, "dice_weight": 0.7}
    row = run(candidate(epochs=1, loss=loss), tmp_path).history[0]
    assert list(row) == history_columns(["bce", "dice"])
    for subset in ("train", "val"):
        expected = 0.3 * row[f"{subset}_loss_bce"] + 0.7 * row[f"{subset}_loss_dice"]
        assert row[f"{subset}_loss"] == pytest.approx(expected, rel=1e-5)


def test_class_weights_come_from_the_training_images_alone(tmp_path: Path) -> None:
    def with_weights(weights: Any) -> Fitted:
        return run(candidate(loss={"name": "bce", "class_weights": weights}), tmp_path, str(weights))

    _, mask_NHW = subsets(tmp_path, candidate()).train.batch(list(range(10)), torch.device("cpu"))
    share = float((mask_NHW > 0).double().mean())
    given = [0.5 / (1 - share), 0.5 / share]
    assert same(with_weights("inverse_frequency").weights, with_weights(given).weights)
    assert not same(with_weights("inverse_frequency").weights, with_weights(None).weights)


def test_the_best_epoch_or_the_last_is_kept(tmp_path: Path) -> None:
    best = run(candidate(UNET, epochs=5, schedule=CONSTANT, learning_rate=0.03), tmp_path, "best")
    shorter = candidate(UNET, epochs=best.best_epoch, schedule=CONSTANT, learning_rate=0.03, keep="last")
    last = run(shorter, tmp_path, "last")
    assert 1 < best.best_epoch < 5, "the test needs a seed whose last epoch isn't the best"
    assert last.best_epoch == best.best_epoch
    assert same(best.weights, last.weights)


def test_training_stops_early_when_nothing_improves(tmp_path: Path) -> None:
    params = candidate(epochs=9, learning_rate=1e-12, early_stopping_patience=2, init="torch", output_bias=-9.0)
    fitted = run(params, tmp_path)
    assert len(fitted.history) == 3
    assert fitted.best_epoch == 1


def test_averaged_weights_are_those_of_the_formula_and_are_the_ones_validated(tmp_path: Path) -> None:
    steps: dict[str, Any] = {"batch_size": 16, "schedule": CONSTANT, "keep": "last", "precise_bn_images": None}
    first, second = (run(candidate(epochs=n, **steps), tmp_path, f"plain{n}") for n in (1, 2))
    averaged = run(candidate(epochs=2, ema_decay=0.75, **steps), tmp_path, "averaged")
    for name, weight in averaged.weights.items():
        if weight.is_floating_point():
            expected = 0.75 * first.weights[name] + 0.25 * second.weights[name]
            torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-6)
    assert averaged.history[0] == second.history[0]
    assert averaged.history[1]["train_loss"] == second.history[1]["train_loss"]
    assert averaged.history[1]["val_loss"] != second.history[1]["val_loss"]


def test_batch_norm_gets_the_statistics_of_the_training_images_under_the_kept_weights(tmp_path: Path) -> None:
    params = candidate(epochs=2, batch_size=16, ema_decay=0.9, keep="last")  # all images are one batch
    weights = run(params, tmp_path).weights
    image_BCHW, _ = subsets(tmp_path, params).train.batch(list(range(10)), torch.device("cpu"))
    seen = torch.nn.functional.conv2d(image_BCHW, weights["stem.conv.weight"], weights["stem.conv.bias"], padding=1)
    torch.testing.assert_close(weights["stem.block.norm.running_mean"], seen.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(weights["stem.block.norm.running_var"], seen.var(dim=(0, 2, 3)), rtol=1e-4, atol=1e-6)


def test_batch_norm_statistics_are_for_judging_and_leave_training_alone(tmp_path: Path) -> None:
    same_steps: dict[str, Any] = {"schedule": CONSTANT, "keep": "last"}
    precise = run(candidate(precise_bn_images=8, **same_steps), tmp_path, "precise")
    running = run(candidate(precise_bn_images=None, **same_steps), tmp_path, "running")
    assert [row["train_loss"] for row in precise.history] == [row["train_loss"] for row in running.history]
    assert precise.history[-1]["val_loss"] != running.history[-1]["val_loss"]
    for name, weight in precise.weights.items():
        judged_only = "running" in name or "tracked" in name
        assert judged_only or torch.equal(weight, running.weights[name])


def test_scores_are_means_over_images_at_one_half(tmp_path: Path) -> None:
    sure = candidate(epochs=1, learning_rate=1e-12, schedule=CONSTANT, init="torch", output_bias=9.0)
    row = run(sure, tmp_path).history[0]  # everything is foreground
    _, mask_NHW = subsets(tmp_path, sure).val.batch([0, 1, 2, 3], torch.device("cpu"))
    shares = mask_NHW.numpy().mean(axis=(1, 2))
    assert row["val_recall"] == 1
    assert row["val_precision"] == row["val_iou"] == pytest.approx(shares.mean())
    assert row["val_dice"] == pytest.approx((2 * shares / (1 + shares)).mean())
    assert row["val_loss"] == pytest.approx(9 * (1 - shares.mean()), rel=0.3)


def test_a_loss_that_is_not_finite_names_candidate_epoch_and_params(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"candidate tiny, epoch 1: train_loss is nan; lower recipe\.learning_rate"):
        run(candidate(output_bias=float("nan")), tmp_path)


def test_lack_of_memory_names_the_params_to_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segops.training.loop.train_epoch", lambda *_: torch.empty(2**50))
    with pytest.raises(UserError, match=r"candidate tiny: out of memory; lower recipe\.batch_size"):
        run(candidate(), tmp_path)


def test_a_batch_of_one_value_names_the_params_to_change(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"candidate tiny: a batch of one image"):
        run(candidate({"architecture": "resunet", "filters": [2] * 6}, batch_size=1), tmp_path)


def test_freed_memory_is_kept_where_libc_is_glibc() -> None:
    import platform

    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


def test_precision_auto_is_bf16_only_where_it_is_native_and_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    amd, intel = {"cpu_name": "AMD EPYC 9B14"}, {"cpu_name": "Intel Xeon"}
    for native, expected in (
        ({"avx512_bf16": True, **amd}, "bf16"),
        ({"avx512_bf16": True}, "bf16"),
        ({"avx512_bf16": True, **intel}, "fp32"),  # no faster there
        ({"avx512_bf16": True, "amx_bf16": True, **intel}, "bf16"),
        ({"avx512_f": True}, "fp32"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda native=native: native)
        assert resolve_precision("auto", cpu) == expected
    assert resolve_precision("bf16", cpu) == "bf16"


def test_the_stage_writes_a_model_that_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    prepared, params = write_prepared(tmp_path / "prepared"), candidate(epochs=6)

    def call(name: str, params: CandidateParams = params) -> TrainedModel:
        runtime = RuntimeParams(threads=1, device="cpu")
        return train("tiny", params, runtime, TrackingParams(), prepared=prepared, model=tmp_path / name)

    made = call("one")
    folder = tmp_path / "one"
    assert sorted(path.name for path in folder.iterdir()) == [
        "history.csv",
        "model.json",
        "panels",
        "run.json",
        "weights.safetensors",
    ]
    assert TrainedModel.load(folder) == made
    assert made.weights_sha256 == sha256_file(folder / "weights.safetensors")
    assert CandidateParams.model_validate(made.params) == params
    assert made.epochs == 6
    assert made.val_dice > 0.8
    assert (made.train_height_px, made.train_width_px) == ((38, 40), (44, 48))
    with (folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == history_columns()
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    record = json.loads((folder / "run.json").read_text())
    assert record["device"] == "cpu"
    assert record["images_per_second"] > 0

    monkeypatch.setattr("segops.training.loop.train_epoch", lambda *_: pytest.fail("trained twice"))
    call("again")  # from the finished checkpoint
    for name in ("weights.safetensors", "model.json", "history.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name
    inference = InferenceParams(tta="flips", postprocess=PostprocessParams(threshold=0.3, largest_only=True))
    other = call("other", params.model_copy(update={"inference": inference}))  # the same weights, used otherwise
    assert (other.checkpoints, other.weights_sha256) == (made.checkpoints, made.weights_sha256)
    assert (other.rule, other.threshold, other.cleaning.largest_only) == ("fixed", 0.3, True)
    assert other.key != made.key
    assert other.inference_sha256 != made.inference_sha256
    assert not list(tmp_path.glob(".*.partial"))


@pytest.mark.parametrize("error", [UserError, KeyboardInterrupt])
def test_a_stage_that_ends_early_leaves_no_output(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object) -> None:
        raise error

    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setattr(loop, "validate", end)
    prepared, params = write_prepared(tmp_path / "prepared"), candidate()
    with pytest.raises(error):
        train(
            "tiny",
            params,
            RuntimeParams(threads=1, device="cpu"),
            TrackingParams(),
            prepared=prepared,
            model=tmp_path / "models/tiny",
        )
    assert not list((tmp_path / "models").iterdir())
