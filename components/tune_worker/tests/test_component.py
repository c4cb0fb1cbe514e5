from __future__ import annotations

from pathlib import Path

from components.tune_worker import tune_worker
from segops.kubeflow import loop_items
from segops.params.compact import as_text
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from tests.support.component_steps import refused, run_step
from tests.support.tiny_prepared import write_prepared
from tests.support.tiny_searches import tiny, tune_params


def test_a_worker_without_a_study_is_one_line(tmp_path: Path) -> None:
    with refused(r"^segops: there is no study tiny-\w{8} in the storage; make it first"):
        run_step(
            tune_worker,
            tmp_path,
            worker=0,
            params=as_text(tune_params(storage="sqlite:///studies.db")),
            candidates=loop_items({"tiny": tiny()}),
            runtime=as_text(RuntimeParams(threads=1)),
            tracking=as_text(TrackingParams()),
            code="",
            prepared=write_prepared(tmp_path / "prepared"),
        )
