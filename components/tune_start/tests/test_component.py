from __future__ import annotations

from pathlib import Path

from components.tune_start import tune_start
from segops.kubeflow import loop_items
from segops.params.compact import as_text
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from tests.support.component_steps import refused, run_step
from tests.support.tiny_prepared import write_prepared
from tests.support.tiny_searches import tiny, tune_params


def test_a_search_for_nobody_is_one_line(tmp_path: Path) -> None:
    with refused(r"^segops: tune\.searches: there is no candidate 'tiny'; there are net"):
        run_step(
            tune_start,
            tmp_path,
            params=as_text(tune_params()),
            candidates=loop_items({"net": tiny()}),
            runtime=as_text(RuntimeParams()),
            tracking=as_text(TrackingParams()),
            code="",
            prepared=write_prepared(tmp_path / "prepared"),
        )
