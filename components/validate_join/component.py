from typing import List  # noqa: UP035 - kfp reads List, not list

from kfp import dsl

from components.step import DATA_IMAGE, step


@step(DATA_IMAGE)
def validate_join(
    params: str,
    code: str,  # noqa: ARG001
    dataset: dsl.Input[dsl.Dataset],
    parts: dsl.Input[List[dsl.Artifact]],  # noqa: UP006
    report: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
) -> None:
    """Judge a dataset by what its parts show: report and refusal are those of the step validate.

    Args:
        params: The section `validate` of params.yaml, as text.
        code: Names the code, for the cache.
        dataset: What ingest wrote.
        parts: What each validate_part wrote, in any order.
        report: report.json and report.html.
        page: report.html, for Kubeflow's viewer.
    """
    import shutil
    from pathlib import Path

    from segops.kubeflow import facts, one_line_errors, section
    from segops.params.validate import ValidateParams
    from segops.stages.validate import join_validated

    settings, folders = section(ValidateParams, params), [Path(part.path) for part in parts]
    with one_line_errors():
        result = join_validated(settings, dataset=Path(dataset.path), parts=folders, report=Path(report.path))
    report.metadata.update(facts(result, "images", "success", "manifest_sha256"))
    shutil.copyfile(Path(report.path) / "report.html", page.path)
