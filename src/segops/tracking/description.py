"""What MLflow's pages say of a run and of a version, in markdown with links."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from segops.contracts.tables import MODEL_CARD_FILE
from segops.tracking.markdown import Markdown, code, fill, link

if TYPE_CHECKING:
    from mlflow.entities import Run

    from segops.contracts.evaluation import Evaluation
    from segops.contracts.model import TrainedModel

TABLE_FILE = "per_image.json"

_RUN = """
**{{ model.candidate }}** on {{ model.dataset }} ({{ model.licence }}), protocol {{ model.protocol }}{{ verdict }}

| | Dice |
|---|---|
| validation | {{ evaluation.val.dice|interval }} |
| test | {{ evaluation.test.dice|interval }} |

{{ "{:.0%}".format(evaluation.confidence) }} intervals over groups. {{ rule }}, {{ "{:,}".format(model.parameters) }}
parameters, weights of epoch {{ model.best_epoch }}.

{% for line in links %}
- {{ line }}
{% endfor %}
"""


def run_description(
    run: Run, model: TrainedModel, evaluation: Evaluation, *, version: tuple[str, int] | None, reason: str | None
) -> str:
    """The description of a candidate's run.

    Args:
        version: the registered model's name and the version's number; None: there is none.
        reason: the floor that was missed.
    """
    verdict = f"; not registered: {reason}" if reason else ""
    return fill(
        _RUN,
        model=model,
        evaluation=evaluation,
        verdict=verdict,
        rule=model.shown_rule.capitalize(),
        links=_links(run, model, version),
    )


def version_description(run: Run, model: TrainedModel, evaluation: Evaluation) -> str:
    """The description of a version: its score, and where its run and its card are. Lists show its first words bare."""
    page = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    return fill(
        "{{ model.candidate }} on {{ model.dataset }}: test Dice {{ evaluation.test.dice|interval }}, "
        "{{ '{:,}'.format(model.parameters) }} parameters. {{ run }}; {{ card }} (here as {{ path|code }}).",
        model=model,
        evaluation=evaluation,
        run=link(f"Run {run.info.run_name}", page),
        card=link("model card", f"{page}/artifacts/report/{MODEL_CARD_FILE}"),
        path=f"candidate/{MODEL_CARD_FILE}",
    )


def _links(run: Run, model: TrainedModel, version: tuple[str, int] | None) -> list[Markdown]:
    experiment = f"#/experiments/{run.info.experiment_id}"
    artifacts = f"{experiment}/runs/{run.info.run_id}/artifacts"
    same_test = quote(f"tags.test_sha256 = '{model.test_sha256}'", safe="")
    runs = f"{experiment}/runs?workflowType=machine_learning&searchFilter={same_test}"
    found = [
        _named("data", link(model.source, model.source), code(f"sha256 {model.source_sha256[:12]}")),
        _named("pictures and scores", link("gallery", f"{artifacts}/report/gallery.html")),
        _named("every image's scores", link(TABLE_FILE, f"{artifacts}/{TABLE_FILE}")),
        _named("model card", link(MODEL_CARD_FILE, f"{artifacts}/report/{MODEL_CARD_FILE}")),
        _named("comparison", link("the page", f"{artifacts}/comparison/index.html"),
               link("all runs on this test set", runs)),
    ]  # fmt: skip
    if version is not None:
        name, number = version
        found.insert(
            0, _named("version", link(f"{name} {number}", f"#/models/{quote(name, safe='')}/versions/{number}"))
        )
    if page := run.data.tags.get("kubeflow_url"):
        found.append(_named("Kubeflow", link(f"run {run.data.tags['kubeflow_run']}", page)))
    return found


def _named(what: str, *parts: Markdown) -> Markdown:
    return Markdown(f"{what}: {', '.join(parts)}")
