"""What every test gets: the project's root, and stores that can't reach the developer's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support.checkout import ROOT
from tests.support.machine import python_path, sitecustomize

if TYPE_CHECKING:
    from playwright.sync_api import Browser

if os.environ.get(sitecustomize.BF16, "absent") not in sitecustomize.BF16_ANSWERS:
    raise pytest.UsageError(f"{sitecustomize.BF16} is one of {', '.join(sitecustomize.BF16_ANSWERS)}")
os.environ["PYTHONPATH"] = python_path()

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")

# On shared machines an example's time says nothing. `pytest --hypothesis-profile thorough` tries more of them.
settings.register_profile("quick", max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quick")

_LONGEST = ("test_repro.py", "test_tune.py", "test_tune_choice.py", "test_models.py", "test_train.py", "test_resume.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no worker is left with one of them at the end."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With SEGOPS_REQUIRE_SERVICES a test that is skipped has failed: nothing is green because a service is absent."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("SEGOPS_REQUIRE_SERVICES"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"{reason} (SEGOPS_REQUIRE_SERVICES is set)"
    return report


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """Training flushes denormal numbers in its whole process; hypothesis refuses to make floats there."""
    yield
    if "torch" in sys.modules:
        import torch

        torch.set_flush_denormal(False)


@pytest.fixture(autouse=True)
def _own_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default stores, checkpoints and caches stand in the test's own folder."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def dsb2018_zip() -> Path:
    """The 2018 Data Science Bowl's first stage: SEGOPS_DSB2018, or 570 of its 670 images beside the checkout."""
    return _archive("SEGOPS_DSB2018", "dsb2018/stage1_train_v1.zip", "a file such as BBBC038's stage1_train.zip")


@pytest.fixture(scope="session")
def axon_sem_zip() -> Path:
    """Ten electron micrographs of axons in BIDS (axondeepseg): SEGOPS_AXON_SEM, or the archive beside the checkout."""
    return _archive("SEGOPS_AXON_SEM", "axon_sem/data_axondeepseg_sem.zip", "the archive data_axondeepseg_sem.zip")


def _archive(variable: str, beside: str, what: str) -> Path:
    """Real data of a variable of the environment, or beside the checkout; a test without them is skipped."""
    path = Path(os.environ.get(variable, ROOT.parent / "shared" / "data" / beside))
    if not path.is_file():
        pytest.skip(f"needs {variable}, {what}, which isn't part of the project")
    return path


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of small discs; tests read it alone."""
    from tests.support.tiny_prepared import write_prepared

    return write_prepared(tmp_path_factory.mktemp("tiny") / "prepared")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; no longer than a module, since Playwright's event loop would be in the way of other tests' own."""
    from tests.support.browser import launched

    with launched() as started:
        yield started


@pytest.fixture
def mlflow_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """No MLflow server answers."""
    from tests.support.mlflow_server import AWAY

    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
