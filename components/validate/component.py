from kfp import dsl

from components.step import DATA_IMAGE, step


@step(DATA_IMAGE)
def validate(
    params: str,
    code: str,  # noqa: ARG001
    dataset: dsl.Input[dsl.Dataset],
    report: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
) -> None:
    """Check a dataset against the expectations; a critical failure ends the run.

    Args:
        params: The section `validate` of params.yaml, as text.
        code: Names the code, for the cache.
        dataset: What ingest wrote.
        report: report.json and report.html.
        page: report.html, for Kubeflow's viewer.
    """
    import shutil
    from pathlib import Path

    from segops.kubeflow import facts, one_line_errors, section
    from segops.params.validate import ValidateParams
    from segops.stages.validate import validate as stage

    with one_line_errors():
        result = stage(section(ValidateParams, params), dataset=Path(dataset.path), report=Path(report.path))
    report.metadata.update(facts(result, "images", "success", "manifest_sha256"))
    shutil.copyfile(Path(report.path) / "report.html", page.path)
