from kfp import dsl

from components.step import DATA_IMAGE, step


@step(DATA_IMAGE)
def split(
    params: str,
    code: str,  # noqa: ARG001
    dataset: dsl.Input[dsl.Dataset],
    report: dsl.Input[dsl.Artifact],
    split: dsl.Output[dsl.Artifact],
    card: dsl.Output[dsl.Markdown],
    page: dsl.Output[dsl.HTML],
) -> None:
    """Assign every image of a validated dataset to train, val or test, and to a fold.

    Args:
        params: The section `split` of params.yaml, as text.
        code: Names the code, for the cache.
        dataset: What ingest wrote.
        report: What validate wrote.
        split: split.parquet, split.json, dataset_card.md and split.html.
        card: The dataset's card, for Kubeflow's viewer.
        page: split.html, for Kubeflow's viewer.
    """
    import shutil
    from pathlib import Path

    from segops.contracts.tables import DATASET_CARD_FILE
    from segops.kubeflow import facts, one_line_errors, section
    from segops.params.split import SplitParams
    from segops.stages.split import split as stage

    with one_line_errors():
        result = stage(
            section(SplitParams, params), dataset=Path(dataset.path), report=Path(report.path), split=Path(split.path)
        )
    split.metadata.update(facts(result, "protocol", "seed", "assignment_sha256", "groups_on_two_sides"))
    shutil.copyfile(Path(split.path) / DATASET_CARD_FILE, card.path)
    shutil.copyfile(Path(split.path) / "split.html", page.path)
