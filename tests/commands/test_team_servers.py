"""A team's servers, of which clients reach MLflow alone: the way of a model from training into use, MLflow's own pages
and a client that knows nothing of us."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from segops.commands.batch import batch
from segops.commands.drift import drift
from segops.commands.export import export
from segops.commands.predict import PredictRequest, predict
from segops.commands.promote import promote
from segops.contracts.model import TrainedModel
from segops.contracts.prepared import Prepared
from segops.errors import UserError
from segops.files import sha256_lines
from segops.params.batch import BatchParams
from segops.params.compare import CompareParams
from segops.params.drift import DriftParams
from segops.params.export import ExportParams
from segops.params.promote import PromoteParams
from segops.params.register import RegisterParams
from segops.params.runtime import RuntimeParams
from segops.stages.compare import compare
from segops.stages.register import register
from segops.tracking import artifacts, registry, store
from tests.infra.test_serving import manifest_command
from tests.support.factories import write_image
from tests.support.judged_candidates import EPOCHS, folders, write_candidate, write_report
from tests.support.mlflow_server import own_names
from tests.support.serving import ask, served
from tests.support.small_models import brightness_params, brightness_program, save_candidate
from tests.support.team_servers import S3_NAME, Team
from tests.support.tiny_prepared import disc

pytest_plugins = ["tests.support.postgresql", "tests.support.team_servers"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RUNTIME = RuntimeParams(threads=1, device="cpu")
_PLAIN = """
import os, sys, time, mlflow
client = mlflow.MlflowClient()
run = client.create_run(client.create_experiment(sys.argv[1]))
client.log_text(run.info.run_id, "hello", "a.txt")
print(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/a.txt"), run.info.run_id)
"""


@pytest.fixture(params=["offering", "proxying"])
def server(request: pytest.FixtureRequest, team: Team, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a server, as what MLFLOW_TRACKING_URI is set to, with the account of the pipeline."""
    url = str(getattr(team, request.param))
    for name, value in {"MLFLOW_TRACKING_URI": url, **team.login}.items():
        monkeypatch.setenv(name, value)
    for name in ("DOWNLOAD", "UPLOAD"):
        monkeypatch.delenv(f"MLFLOW_ENABLE_PROXY_MULTIPART_{name}", raising=False)
    return url


def _candidate(root: Path, name: str, prepared: Path, dice: float) -> TrainedModel:
    """A candidate that takes what is bright for foreground, as if it had been trained on `prepared`."""
    write_candidate(root, name)
    places = folders(root)
    model = save_candidate(
        places.models / name, brightness_program(), brightness_params(), Prepared.load(prepared), candidate=name,
        rule="fixed", threshold=0.5, key=sha256_lines([name, str(dice)]), epochs=EPOCHS,
    )  # fmt: skip
    write_report(places.reports / name, model, val=[dice] * 2, test=[dice] * 2, modalities=["fluorescence"])
    return model


def test_a_model_goes_from_registration_into_use(
    server: str, team: Team, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking, places = own_names(), folders(tmp_path)
    began = time.monotonic()
    for name, dice in (("better", 0.9), ("worse", 0.8)):
        _candidate(tmp_path, name, prepared, dice)
        register(RegisterParams(), tracking, model=places.models / name, report=places.reports / name)
    compare(
        CompareParams(), tracking, ["better", "worse"],
        reports=places.reports, models=places.models, comparison=places.comparison,
    )  # fmt: skip
    seconds = {"register and compare": time.monotonic() - began}
    began = time.monotonic()
    for name, value in team.promoter.items():
        monkeypatch.setenv(name, value)
    promote("challenger", PromoteParams(), RUNTIME, tracking, confirm=lambda _: True)
    seconds["promote"] = time.monotonic() - began
    began = time.monotonic()
    image_HWC, _ = disc((50, 70), 3, seed=5)
    for number in range(2):
        write_image(tmp_path / "new" / f"{number}.png", image_HWC)
    predict(
        PredictRequest("champion", RUNTIME, tracking, inputs=[tmp_path / "new"], out=tmp_path / "masks", overlays=False)
    )
    list(batch(BatchParams(source=str(tmp_path / "new")), RUNTIME, tracking, masks=tmp_path / "batch"))
    drift("champion", DriftParams(min_images=2), RUNTIME, tracking, images=tmp_path / "new", report=tmp_path / "drift")
    made = export(
        "champion", ["onnx"], ExportParams(passes=1), RUNTIME, tracking, prepared=prepared, out=tmp_path / "export"
    )
    seconds["predict, batch, drift and export"] = time.monotonic() - began
    assert made.candidate == "better"
    assert (tmp_path / "masks" / "0.png").read_bytes() == (tmp_path / "batch" / "0.png").read_bytes()
    assert (tmp_path / "drift" / "index.html").is_file()
    sys.stderr.write(f"{seconds}\n")


def test_the_champion_is_served(
    server: str, team: Team, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking, places = own_names(), folders(tmp_path)
    _candidate(tmp_path, "better", prepared, 0.9)
    made = register(RegisterParams(), tracking, model=places.models / "better", report=places.reports / "better")
    with monkeypatch.context() as promoter:
        for name, value in team.promoter.items():
            promoter.setenv(name, value)
        registry.set_alias(store.client(), tracking.model_name, registry.CHAMPION, made.version)
    command, settings = manifest_command()
    own = [word.replace("synthetic-nuclei", tracking.model_name) for word in command]
    # Its own settings alone, not ours: MLflow's client is all that runs in there.
    with served(own, tmp_path, **{**settings, "MLFLOW_TRACKING_URI": server, "HOME": str(tmp_path)}) as url:
        status, answer = ask(url, np.zeros((1, 3, 33, 41)).tolist())
    assert (status, np.array(answer["predictions"]).shape) == (200, (1, 1, 33, 41))


def test_a_file_above_the_multipart_size_is_logged_and_fetched(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", str(6 * 2**20))
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", str(5 * 2**20))
    monkeypatch.setenv("MLFLOW_MULTIPART_DOWNLOAD_MINIMUM_FILE_SIZE", str(2**20))
    content = np.random.default_rng(0).bytes(12 * 2**20)
    (tmp_path / "large.bin").write_bytes(content)
    client = store.client()
    run = client.create_run(store.experiment_id(client, own_names().experiment))
    began = time.monotonic()
    client.log_artifact(run.info.run_id, str(tmp_path / "large.bin"))
    (tmp_path / "into").mkdir()
    found = artifacts.fetch(run.info.artifact_uri, "large.bin", tmp_path / "into")
    assert found.read_bytes() == content
    assert Path(client.download_artifacts(run.info.run_id, "large.bin", str(tmp_path))).read_bytes() == content
    assert time.monotonic() - began < 30


def test_what_is_gone_and_what_fails_is_told_apart(
    server: str, team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = store.client()
    run = client.create_run(store.experiment_id(client, own_names().experiment))
    with pytest.raises(FileNotFoundError), store.answering():
        artifacts.fetch(run.info.artifact_uri, "none.csv", tmp_path)
    if server == team.offering:
        client.log_text(run.info.run_id, "hello", "a.txt")
        monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "true")
        began = time.monotonic()
        with pytest.raises(UserError, match=rf"sends us to http://{S3_NAME}:{team.s3_port} .*\(unknown host\)"):
            artifacts.fetch(run.info.artifact_uri, "a.txt", tmp_path)
        assert time.monotonic() - began < 30
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(UserError, match="401 Unauthorized"), store.answering():
        artifacts.fetch(run.info.artifact_uri, "a.txt", tmp_path)


def test_a_client_that_knows_nothing_of_us_fetches_through_the_manifests_server(team: Team) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment = {**plain, **team.login, "MLFLOW_TRACKING_URI": team.proxying}
    command = [sys.executable, "-c", _PLAIN, own_names().experiment]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("hello "), done.stderr
