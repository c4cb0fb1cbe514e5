from typing import List  # noqa: UP035 - kfp reads the annotation

from kfp import dsl

from components.step import TRAIN_IMAGE, step


@step(TRAIN_IMAGE)
def compare(
    params: str,
    tracking: str,
    work: str,
    models: dsl.Input[List[dsl.Model]],  # noqa: UP006
    reports: dsl.Input[List[dsl.Artifact]],  # noqa: UP006
    registrations: dsl.Input[List[dsl.Artifact]],  # noqa: UP006
    comparison: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
) -> None:
    """Rank the candidates on validation and point the alias `challenger` at the leader's version.

    Args:
        params: The section `compare` of params.yaml, as text.
        tracking: The section `tracking` of params.yaml, as text.
        work: Names all that the run read, from source_state; noted in MLflow as done.
        models: What train wrote for each candidate.
        reports: What evaluate wrote for each candidate.
        registrations: What register wrote for each candidate.
        comparison: comparison.json, leaderboard.csv and index.html.
        page: index.html, for Kubeflow's viewer.
    """
    import shutil
    from pathlib import Path

    from segops.kubeflow import by_candidate, facts, one_line_errors, section
    from segops.params.compare import CompareParams
    from segops.params.tracking import TrackingParams
    from segops.stages.compare import compare as stage

    settings = section(CompareParams, params), section(TrackingParams, tracking)
    with one_line_errors(), by_candidate(models, reports, registrations) as (names, trained, judged):
        result = stage(*settings, names, models=trained, reports=judged, comparison=Path(comparison.path), work=work)
    comparison.metadata.update(facts(result, "decision", "protocol", "test_sha256", "challenger"))
    shutil.copyfile(Path(comparison.path) / "index.html", page.path)
