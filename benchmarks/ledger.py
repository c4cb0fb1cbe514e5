"""What commands cost with a long ledger: python -m benchmarks.ledger [ENTRIES]."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def main(entries: int) -> None:
    """Time reading, using, promoting and rolling back with so many refusals in a sqlite store."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ |= {"DVC_ROOT": folder, "MLFLOW_TRACKING_URI": ""}
        from segops.commands.history import history
        from segops.commands.promote import promote, rollback
        from segops.params.promote import PromoteParams
        from segops.params.runtime import RuntimeParams
        from segops.params.tracking import TrackingParams
        from segops.tracking import promoted, store
        from tests.support.judged_candidates import add_version

        tracking, params = TrackingParams(), PromoteParams(min_groups=2, min_subgroup_images=2)
        runtime = RuntimeParams(threads=1, device="cpu")
        first, second = (add_version(root, tracking, name, test=[0.9] * 8) for name in "ab")
        promote(str(first), params, runtime, tracking, confirm=lambda _: True)
        client = store.client()
        experiment = client.get_experiment_by_name(f"{tracking.experiment}-decisions")
        assert experiment is not None
        [run] = client.search_runs([experiment.experiment_id])
        tags = {name: text for name, text in run.data.tags.items() if name in ("model_name", "mlflow.user")}
        [line] = (text for name, text in run.data.tags.items() if name.startswith("segops.decision."))
        for at in range(entries):
            refusal = json.dumps(json.loads(line) | {"number": None, "action": "refused", "who": f"person {at}"})
            made = client.create_run(experiment.experiment_id, tags={**tags, "segops.decision.000": refusal})
            client.set_terminated(made.info.run_id)
        _time("history", lambda: history(tracking))
        _time("the champion for use", lambda: promoted.fetch(tracking, "champion", root / "used"))
        _time("promote", lambda: promote(str(second), params, runtime, tracking, confirm=lambda _: True))
        _time("rollback", lambda: rollback(tracking, confirm=lambda _: True))


def _time(name: str, command: Callable[[], object]) -> None:
    began = time.perf_counter()
    command()
    print(f"{name}: {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
