from kfp import dsl

from components.step import TRAIN_IMAGE, step


@step(TRAIN_IMAGE)
def register(
    params: str,
    tracking: str,
    model: dsl.Input[dsl.Model],
    report: dsl.Input[dsl.Artifact],
    registered: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Make a model version of a candidate's weights in MLflow, or say which floor it missed.

    Args:
        params: The section `register` of params.yaml, as text.
        tracking: The section `tracking` of params.yaml, as text.
        model: What train wrote.
        report: What evaluate wrote.
        registered: registration.json, whether a version was made or not, and model_card.md.
        summary: The version or the floor that was missed, and the scores, for Kubeflow's viewer.
    """
    import shutil
    from pathlib import Path

    from segops.contracts.evaluation import Evaluation
    from segops.contracts.tables import MODEL_CARD_FILE
    from segops.kubeflow import beside, facts, one_line_errors, registration_note, section
    from segops.params.register import RegisterParams
    from segops.params.tracking import TrackingParams
    from segops.stages.register import register as stage

    settings = section(RegisterParams, params), section(TrackingParams, tracking)
    with one_line_errors(), beside(Path(report.path)) as folder:
        registration = stage(*settings, model=Path(model.path), report=folder)
        registration.save(Path(registered.path))
        shutil.copy(folder / MODEL_CARD_FILE, registered.path)
    registered.metadata.update(facts(registration, "candidate", "registered", "reason", "model_name", "version"))
    Path(summary.path).write_text(registration_note(registration, Evaluation.load(Path(report.path))), encoding="utf-8")
