"""The graph on volumes in both engines: slices and patches, the same bytes at every stage."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest

from tests.support.both_engines import check_out, check_same_outputs, repro, run_pipeline
from tests.support.volume_runs import SLICES, VOLUMES, project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4000)]  # twice twelve stages, each a process: two minutes of a CPU


def test_dvc_and_kubeflow_give_the_same_bytes_of_volumes(tmp_path: Path) -> None:
    candidates = deepcopy({"slices": SLICES, "volumes": VOLUMES})
    for candidate in candidates.values():
        candidate["recipe"] |= {"epochs": 1, "precise_bn_images": 4}
    candidates["volumes"]["recipe"]["loss"] = {"name": "dice_boundary"}
    params = project(**candidates).model_dump(mode="json", by_alias=True) | {"candidates": candidates}
    params["register"]["floors"] = {"dice": 1.0, "iou": 1.0}  # exports take seconds: tests/stages has them
    params["ingest"]["source"] = "synthetic://organs?n=10&size=20&depth=8&seed=7"
    folder = check_out(tmp_path / "project", params)
    assert {"train@slices", "train@volumes", "compare"} <= repro(folder)
    assert repro(folder) == set()
    check_same_outputs(folder, run_pipeline(folder, tmp_path), candidates=2)
