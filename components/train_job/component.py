from kfp import dsl

from components.step import TRAIN_IMAGE, step


@step(TRAIN_IMAGE)
def train_job(
    candidate: str,
    recipe: str,
    runtime: str,
    tracking: str,
    code: str,
    job: str,
    prepared: dsl.Input[dsl.Dataset],
    tuned: dsl.Input[dsl.Artifact],
    model: dsl.Output[dsl.Model],
) -> None:
    """Train a candidate on several nodes, as a TrainJob that this step makes, follows and removes.

    Args:
        candidate: Its name.
        recipe: Its entry under `candidates` in params.yaml, as text.
        runtime: The section `runtime` of params.yaml, as text.
        tracking: The section `tracking` of params.yaml, as text.
        code: Names the code, for the cache.
        job: The section `kubeflow` of params.yaml, as text.
        prepared: What prepare wrote.
        tuned: What tune wrote; this candidate's part goes into its params.
        model: weights.safetensors, model.json, history.csv and panels.
    """
    from pathlib import Path

    from components.train_job.on_nodes import train_on_nodes
    from segops.kubeflow import facts, one_line_errors, section
    from segops.params.kubeflow import KubeflowParams

    texts = {"candidate": candidate, "recipe": recipe, "runtime": runtime, "tracking": tracking}
    on = section(KubeflowParams, job)
    with one_line_errors():
        trained = train_on_nodes(
            texts, on, code=code, prepared=Path(prepared.path), tuned=Path(tuned.path), model=Path(model.path)
        )
    model.metadata.update(facts(trained, "candidate", "key", "weights_sha256", "val_dice", "best_epoch", "parameters"))
