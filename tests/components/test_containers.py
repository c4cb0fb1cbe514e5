"""The pipeline in containers, where a Docker engine runs and `make images` was called; elsewhere skipped."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.local import run_local
from pipelines.overrides import override
from segops.contracts.comparison import Comparison
from segops.errors import UserError
from segops.params.project import Params, load_params
from tests.pipelines.test_run_local import SMALL
from tests.support.mlflow_server import MlflowServer

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


def _docker(*words: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("docker")
    if program is None:
        pytest.skip("needs Docker")
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def params(root: Path) -> Params:
    made = override(load_params(root / "params.yaml"), SMALL)
    if (answer := _docker("info")).returncode != 0:
        pytest.skip(f"no Docker engine runs: {answer.stderr.strip().splitlines()[-1]}")
    for image in (made.kubeflow.data_image, made.kubeflow.train_image):
        if _docker("image", "inspect", image).returncode != 0:
            pytest.skip(f"no image {image}; call `make images`")
    return made


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path)
    server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    yield server
    server.stop()


def test_images_run_as_an_ordinary_user_on_a_read_only_root(params: Params) -> None:
    for image in (params.kubeflow.data_image, params.kubeflow.train_image):
        done = _docker("run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", image, "segops", "--help")
        assert done.returncode == 0, done.stderr
        assert "promote" in done.stdout
        assert _docker("run", "--rm", "--network", "none", image, "id", "--user").stdout.strip() == "10001"
    assert _docker("run", "--rm", params.kubeflow.data_image, "python3", "-c", "import torch").returncode == 1


@pytest.mark.usefixtures("server")
def test_the_pipeline_runs_in_containers_and_registers_its_candidates(params: Params, tmp_path: Path) -> None:
    made = run_local(params, tmp_path / "out", docker=True)
    assert Comparison.load(made / "compare" / "comparison").challenger in params.candidates
    found = [json.loads(path.read_text()) for path in made.glob("for-loop-*/register/registered/registration.json")]
    assert {one["candidate"]: one["registered"] for one in found} == dict.fromkeys(params.candidates, True)


@pytest.mark.usefixtures("server")
def test_an_image_that_is_not_there_is_one_line(params: Params, tmp_path: Path) -> None:
    wrong = override(params, ["kubeflow.data_image=segops/no-such-image:0.0.0"])
    with pytest.raises(
        UserError, match=r"^run-local --docker: .*no-such-image.*; start the engine, and build"
    ) as error:
        run_local(wrong, tmp_path / "out", docker=True)
    assert "\n" not in str(error.value)
