"""What was promoted, behind HTTP: the command that the documents and the manifest give, on a real server."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from infra.kubernetes import manifests
from segops.data.images import read_image
from segops.inference.predict import Predictor
from segops.params.register import RegisterParams
from segops.params.tracking import TrackingParams
from segops.stages.register import register
from segops.tracking import registry, store
from tests.support.factories import write_image
from tests.support.judged_candidates import folders, write_candidate
from tests.support.kubernetes_checks import find, load
from tests.support.mlflow_server import MlflowServer, own_names
from tests.support.serving import ask, served
from tests.support.tiny_prepared import disc

pytest_plugins = ["tests.support.mlflow_stores"]


def documented_command(root: Path) -> list[str]:
    """The command of docs/how-to/export-and-serving.md that serves the champion."""
    text = (root / "docs/how-to/export-and-serving.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = re.findall(r"^(?:\w+=\S+\s+)*(mlflow models serve .*)$", text, re.MULTILINE)
    return shlex.split(line, comments=True)


def manifest_command() -> tuple[list[str], dict[str, str]]:
    """The command of KServe's container, and its environment."""
    objects = load(manifests.SERVING)
    (container,) = find(objects, "InferenceService", "segmentation")["spec"]["predictor"]["containers"]
    settings = find(objects, "ConfigMap", "serving")["data"]
    words = [word.replace("$(MODEL_URI)", settings["MODEL_URI"]) for word in container["args"]]
    return [*container["command"], *words], settings


def test_documents_and_manifest_serve_the_champion_alike(root: Path) -> None:
    documented, (manifest, settings) = documented_command(root), manifest_command()
    for option in ("--model-uri", "--env-manager"):
        assert documented[documented.index(option) + 1] == manifest[manifest.index(option) + 1]
    assert settings["MODEL_URI"] == f"models:/{TrackingParams().model_name}@{registry.CHAMPION}"


@pytest.mark.slow
def test_a_served_champion_answers_a_real_image_and_refuses_what_its_signature_does(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    tracking = own_names()
    write_candidate(tmp_path, "small")
    places = folders(tmp_path)
    model, report = places.models / "small", places.reports / "small"
    made = register(RegisterParams(), tracking, model=model, report=report)
    registry.set_alias(store.client(), tracking.model_name, registry.CHAMPION, made.version)

    image_HWC, _ = disc((50, 70), 3, seed=5)
    path = write_image(tmp_path / "a.png", image_HWC)
    expected_KHW = Predictor.load(model).probability(read_image(path.read_bytes(), "a.png"))
    image_BCHW = (image_HWC.astype(np.float32) / 255).transpose(2, 0, 1)[None]
    command, settings = manifest_command()
    own = [word.replace("synthetic-nuclei", tracking.model_name) for word in command]
    with served(own, tmp_path, **settings | {"MLFLOW_TRACKING_URI": server.uri}) as url:
        status, answer = ask(url, image_BCHW.tolist())
        assert status == 200, answer
        np.testing.assert_allclose(np.array(answer["predictions"])[0], expected_KHW, atol=1e-4)
        status, answer = ask(url, np.zeros((2, 3, 33, 41)).tolist())
        assert status == 200
        assert np.array(answer["predictions"]).shape == (2, 1, 33, 41)
        for wrong, said in (
            (np.zeros((1, 1, 33, 41)).tolist(), "Shape of input"),  # another number of channels
            (np.zeros((3, 33, 41)).tolist(), "Shape of input"),  # no batch
            ([[[["bright"]]]], "could not convert string to float"),
        ):
            status, answer = ask(url, wrong)
            assert status == 400
            assert said in answer["message"]
