"""A training that was cut off and started again ends in the same bits as one that wasn't."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import yaml

from segops.errors import UserError
from segops.params.candidate import CandidateParams
from segops.params.project import load_params
from segops.params.tracking import TrackingParams
from segops.stages.train import train
from segops.training.checkpoint import STATE_FILE, load_state
from segops.training.epoch import train_step
from segops.training.loop import Fitted
from segops.training.state import Row
from tests.support.machine import AllowedEpochs, started, wait_until
from tests.support.mlflow_server import AWAY
from tests.support.tiny_prepared import write_prepared
from tests.training.test_train import RESUNET, UNET, candidate, run, same


def interrupted(params: CandidateParams, tmp_path: Path, name: str, cut_off_in: int) -> Fitted:
    """Fit; `cut_off_in` ends it like Ctrl-C does, between an epoch's validation and its checkpoint."""

    def on_epoch(row: Row) -> None:
        if row["epoch"] == cut_off_in:
            raise KeyboardInterrupt

    return run(params, tmp_path, name, on_epoch=on_epoch)


EVERYTHING = {
    "rotate_deg": 20,
    "scale": 0.1,
    "translate": 0.1,
    "affine_probability": 0.7,
    "elastic_px": 2,
    "crop": 0.3,
    "stain": 0.1,
    "stain_probability": 0.5,
    "brightness": 0.1,
    "contrast": 0.1,
    "gamma": 0.3,
    "blur_px": 1.5,
    "noise": 0.1,
    "noise_probability": 0.5,
    "salt_pepper": 0.05,
}
RECIPES = {
    "resunet-ema-one-cycle": candidate(RESUNET, epochs=5, ema_decay=0.8, augment={"rotate_deg": 20}),
    "unet-dropout-plateau-stopping": candidate(
        UNET,
        epochs=6,
        schedule={"name": "plateau", "patience": 1},
        early_stopping_patience=2,
        monitor="loss",
        learning_rate=0.1,
    ),
    "adam-cosine-last-bf16": candidate(
        RESUNET, epochs=5, optimizer="adam", schedule={"name": "cosine"}, keep="last", precision="bf16"
    ),
    "sgd-poly-warm-up-penalties-all-augmentation": candidate(
        RESUNET,
        epochs=5,
        optimizer="sgd",
        momentum=0.9,
        schedule={"name": "poly"},
        warmup_epochs=2,
        small_epochs=2,
        weight_decay=0.001,
        l1=1e-5,
        l2=1e-4,
        decay_norms_and_biases=False,
        foreground_images=0.5,
        loss={"name": "boundary_bce", "class_weights": "inverse_frequency"},
        augment=EVERYTHING,
    ),
}


@pytest.mark.parametrize("params", RECIPES.values(), ids=RECIPES)
def test_a_resumed_training_is_equal(params: CandidateParams, tmp_path: Path) -> None:
    whole = run(params, tmp_path, "whole")
    for epoch in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            interrupted(params, tmp_path, "cut", cut_off_in=epoch)
    resumed = run(params, tmp_path, "cut")
    assert same(whole.weights, resumed.weights)
    assert whole.history == resumed.history
    assert whole.best_epoch == resumed.best_epoch


@pytest.mark.parametrize("params", RECIPES.values(), ids=RECIPES)
def test_a_training_that_ends_between_two_steps_goes_on_from_there(
    params: CandidateParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(params, tmp_path, "whole")
    steps: list[int] = []  # of this process; every fourth is followed by SIGTERM, wherever in an epoch it is
    real = train_step

    def counted(*given: Any) -> torch.Tensor:
        losses = real(*given)
        steps.append(len(steps) + 1)
        if len(steps) % 4 == 0:
            signal.raise_signal(signal.SIGTERM)
        return losses

    monkeypatch.setattr("segops.training.epoch.train_step", counted)
    endings: list[Any] = []
    while True:
        try:
            resumed = run(params, tmp_path, "cut")
            break
        except SystemExit as end:
            endings.append(end.code)
    assert endings == [128 + signal.SIGTERM] * (len(steps) // 4)
    assert len(endings) > 1
    assert len(steps) == len(whole.history) * -(-10 // params.recipe.batch_size)  # none was done twice
    assert same(whole.weights, resumed.weights)
    assert whole.history == resumed.history


def test_a_damaged_checkpoint_starts_over_to_the_same_bits(tmp_path: Path) -> None:
    params = candidate()
    with pytest.raises(KeyboardInterrupt):
        interrupted(params, tmp_path, "cut", cut_off_in=3)
    path = tmp_path / "cut" / STATE_FILE
    path.write_bytes(path.read_bytes()[:5000])
    assert same(run(params, tmp_path, "cut").weights, run(params, tmp_path, "whole").weights)


def test_a_checkpoint_of_a_finished_training_holds_its_result_alone(tmp_path: Path) -> None:
    fitted = run(candidate(ema_decay=0.9), tmp_path, "run")
    loaded = load_state(tmp_path / "run")
    assert loaded is not None
    assert set(loaded[0]) == set(fitted.weights)
    again = run(candidate(ema_decay=0.9), tmp_path, "run")
    assert again == Fitted(again.weights, fitted.history, fitted.best_epoch, fitted.images_per_second)
    assert same(again.weights, fitted.weights)


# ------------------------------------------------------------------------------------------- processes and signals

EPOCHS = 6


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_stopped_process_resumes_to_the_same_weights(
    how: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    write_prepared(tmp_path / "data/prepared")
    knobs = candidate(UNET, epochs=EPOCHS, ema_decay=0.8, schedule={"name": "plateau"}).model_dump(mode="json")
    params_file = tmp_path / "params.yaml"
    given = {"runtime": {"threads": 1, "device": "cpu"}, "ingest": {"source": "unused"}, "candidates": {"tiny": knobs}}
    params_file.write_text(yaml.safe_dump(given))
    models = tmp_path / "models/candidates"

    status = stop(tmp_path, how, meanwhile=lambda pid: refused(params_file, tmp_path, pid))
    assert status == -signal.SIGKILL if how is signal.SIGKILL else status > 0
    assert epochs_done(tmp_path) == 2
    left = [".tiny.lock", ".tiny.lock.holder", ".tiny.partial"]
    assert sorted(path.name for path in models.iterdir()) == (left if how is signal.SIGKILL else [])
    assert steps_kept(tmp_path) == (0 if how is signal.SIGKILL else 1)

    resumed = in_process(params_file, tmp_path, models / "tiny")
    assert [path.name for path in models.iterdir()] == ["tiny"]
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "elsewhere"))
    whole = in_process(params_file, tmp_path, tmp_path / "whole")
    assert whole == resumed
    assert (tmp_path / "whole/history.csv").read_bytes() == (models / "tiny/history.csv").read_bytes()


def in_process(params_file: Path, root: Path, model: Path) -> Any:
    knobs = load_params(params_file)
    return train(
        "tiny", knobs.candidates["tiny"], knobs.runtime, TrackingParams(), prepared=root / "data/prepared", model=model
    )


def stop(root: Path, how: signal.Signals, meanwhile: Callable[[int], None]) -> int:
    """Start `segops train`; in mid of its third epoch call `meanwhile` and send the signal; return the exit status."""
    command = [sys.executable, "-c", "from segops.cli.main import main; main()", "train", "tiny"]
    with started(command, root, AllowedEpochs(root / "epochs", 2).environment) as process:
        wait_until(lambda: epochs_done(root) == 2, process)
        meanwhile(process.pid)
        process.send_signal(how)
        return process.wait()


def epochs_done(root: Path) -> int:
    """In the one checkpoint of a project."""
    states = list(root.glob(f".segops/checkpoints/*/{STATE_FILE}"))
    if not states:
        return 0
    with TemporaryDirectory() as name:  # of a copy, since what can't be read is moved away, and training may replace it
        try:
            shutil.copytree(states[0].parent, name, dirs_exist_ok=True)
        except (OSError, shutil.Error):
            return 0
        loaded = load_state(Path(name))
    return 0 if loaded is None else len(loaded[1]["history"])


def steps_kept(root: Path) -> int:
    """In the checkpoint of the epoch that was cut off."""
    (state,) = root.glob(f".segops/checkpoints/*/{STATE_FILE}")
    loaded = load_state(state.parent)
    assert loaded is not None
    step = loaded[1]["step"]
    assert isinstance(step, int)
    return step


def refused(params_file: Path, root: Path, pid: int) -> None:
    """A second training of the candidate is turned away, and the first one's files stay."""
    with pytest.raises(UserError, match=rf"candidate tiny is already being trained by pid {pid} on \S+; wait for it"):
        in_process(params_file, root, root / "models/candidates/tiny")
