"""What MLflow's pages say of an experiment, of a run and of a version, as Markdown with links."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from segops.contracts.tables import MODEL_CARD_FILE
from segops.reports.markdown import Markdown, code, link
from segops.reports.pages import render
from segops.tracking.candidate import TABLE_FILE

if TYPE_CHECKING:
    from segops.contracts.evaluation import Evaluation
    from segops.contracts.model import TrainedModel
    from segops.tracking.pages import Links
    from segops.tracking.store import Run


def run_note(
    run: Run, model: TrainedModel, evaluation: Evaluation, *, version: tuple[str, int] | None, reason: str | None
) -> str:
    """Write what the page of a candidate's run says first.

    Args:
        version: the registered model's name and the version's number; None: there is none.
        reason: the floor that was missed.
    """
    verdict = f"; not registered: {reason}" if reason else ""
    return render(
        "run_note.md.j2",
        model=model,
        evaluation=evaluation,
        verdict=verdict,
        rule=model.shown_rule.capitalize(),
        links=_links(run, model, version),
    )


def version_note(run: Run, model: TrainedModel, evaluation: Evaluation) -> str:
    """Write what is said of a version: its score, and where its run and card are. Lists show its first words bare."""
    page = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    return render(
        "version_note.md.j2",
        model=model,
        evaluation=evaluation,
        run=link(f"Run {run.info.run_name}", page),
        card=link("model card", f"{page}/artifacts/report/{MODEL_CARD_FILE}"),
        path=f"candidate/{MODEL_CARD_FILE}",
    )


def experiment_note(pages: Links, decision: str | None) -> str:
    """Write what MLflow's page of the experiment says: the decision of `compare`, if there is one, and the pages."""
    shown = _places(pages)
    if pages.model:
        shown.append(_named("registered model", link("versions, challenger, champion", pages.model)))
    return render("experiment_note.md.j2", decision=decision, links=shown)


def model_note(pages: Links, description: str) -> str:
    """Write what MLflow's page of the registered model says: what it is, and where its versions are compared."""
    return "\n\n".join([description, "\n".join(f"- {line}" for line in _places(pages))])


def _places(pages: Links) -> list[Markdown]:
    """List links to the candidates and to their comparison, if there is one."""
    shown = [_named("candidates", link("table", pages.runs), link("charts and pictures", pages.charts))]
    if pages.comparison:
        shown.append(_named("comparison", link("which leads, and is the lead real", pages.comparison)))
    return shown


def _links(run: Run, model: TrainedModel, version: tuple[str, int] | None) -> list[Markdown]:
    """List links to what belongs to a run: version, data, pictures, scores, card and comparison."""
    experiment = f"#/experiments/{run.info.experiment_id}"
    artifacts = f"{experiment}/runs/{run.info.run_id}/artifacts"
    same_test = quote(f"tags.test_sha256 = '{model.test_sha256}'", safe="")
    runs = f"{experiment}/runs?workflowType=machine_learning&searchFilter={same_test}"
    links = [
        _named("data", link(model.source, model.source), code(f"sha256 {model.source_sha256[:12]}")),
        _named("pictures and scores", link("gallery", f"{artifacts}/report/gallery.html")),
        _named("every image's scores", link(TABLE_FILE, f"{artifacts}/{TABLE_FILE}")),
        _named("model card", link(MODEL_CARD_FILE, f"{artifacts}/report/{MODEL_CARD_FILE}")),
        _named("comparison", link("the page", f"{artifacts}/comparison/index.html"),
               link("all runs on this test set", runs)),
    ]  # fmt: skip
    if version is not None:
        name, number = version
        links.insert(
            0, _named("version", link(f"{name} {number}", f"#/models/{quote(name, safe='')}/versions/{number}"))
        )
    if page := run.data.tags.get("kubeflow_url"):
        links.append(_named("Kubeflow", link(f"run {run.data.tags['kubeflow_run']}", page)))
    return links


def _named(what: str, *parts: Markdown) -> Markdown:
    """Write parts after what they are, such as `version: ...`."""
    return Markdown(f"{what}: {', '.join(parts)}")
