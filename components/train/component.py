from kfp import dsl

from components.step import TRAIN_IMAGE, step


@step(TRAIN_IMAGE)
def train(
    candidate: str,
    recipe: str,
    runtime: str,
    tracking: str,
    code: str,  # noqa: ARG001
    prepared: dsl.Input[dsl.Dataset],
    tuned: dsl.Input[dsl.Artifact],
    model: dsl.Output[dsl.Model],
) -> None:
    """Train a candidate; a retried pod resumes after its last finished epoch.

    Args:
        candidate: Its name.
        recipe: Its entry under `candidates` in params.yaml, as text.
        runtime: The section `runtime` of params.yaml, as text.
        tracking: The section `tracking` of params.yaml, as text.
        code: Names the code, for the cache.
        prepared: What prepare wrote.
        tuned: What tune wrote; this candidate's part goes into its params.
        model: weights.safetensors, model.json, history.csv and panels.
    """
    from pathlib import Path

    from segops.kubeflow import facts, one_line_errors, section
    from segops.params.candidate import CandidateParams
    from segops.params.runtime import RuntimeParams
    from segops.params.tracking import TrackingParams
    from segops.stages.train import train as stage

    settings = section(CandidateParams, recipe), section(RuntimeParams, runtime), section(TrackingParams, tracking)
    data, search, out = Path(prepared.path), Path(tuned.path), Path(model.path)
    with one_line_errors():
        trained = stage(candidate, *settings, prepared=data, tuned=search, model=out)
    model.metadata.update(facts(trained, "candidate", "key", "weights_sha256", "val_dice", "best_epoch", "parameters"))
