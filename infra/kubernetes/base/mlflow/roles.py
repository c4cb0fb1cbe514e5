"""What each role may do at MLflow where MLflow's own permissions can't tell: its `authorization_function` (auth.ini).

MLflow 3.17 asks the same EDIT of a registered model for making a version and for moving an alias, lets every account
create experiments and models, and lets an experiment's owner rewrite its runs. Here, before MLflow's own checks:

- no role (`serve`): reads;
- `pipeline`: of the aliases only `challenger`; removes no model and no version that another alias names; opens no
  ledger of decisions;
- `promoter`: all of this, but leaves decisions that were made as they are;
- the administrator: everything.

A request is known by the handler that MLflow gives it, and read by the parser that the handler uses.
"""

import math
import time

from accounts import PIPELINE, PROMOTER, holds_decisions, share
from flask import Response, after_this_request, g, jsonify, request
from mlflow.exceptions import MlflowException
from mlflow.protos.model_registry_pb2 import DeleteModelVersion, DeleteRegisteredModelAlias, SetRegisteredModelAlias
from mlflow.protos.service_pb2 import CreateExperiment, DeleteExperiment, UpdateExperiment
from mlflow.server import auth
from mlflow.server.handlers import (
    _get_model_registry_store,
    _get_normalized_request_json,
    _get_request_message,
    _get_tracking_store,
)
from werkzeug.datastructures import Authorization

CHALLENGER = "challenger"
SAFE = ("GET", "HEAD", "OPTIONS")
# POST requests that change nothing. GraphQL has no mutation that does.
READS = {
    "_search_experiments",
    "_search_runs",
    "_search_logged_models",
    "_search_issues",
    "_search_evaluation_datasets_handler",
    "_search_traces_v3",
    "_get_latest_versions",
    "_create_presigned_download_url",
    "_graphql",
    "serve_search_datasets",
    "serve_post_ui_telemetry",
}
OWN = {"update_user_password"}  # MLflow asks whose it is
# Of an account's wrong passwords from an address, so that nobody tries them by the thousand.
FREE_TRIES, LONGEST_PAUSE_S, MOST_REMEMBERED = 5, 16.0, 10_000
_wrong: dict[tuple[str, str], tuple[int, float]] = {}  # how many, and when the last came
RUN_IDS = ("run_id", "run_uuid", "runId", "runUuid")


def authenticate() -> Authorization | Response:
    """Who sends this request; or the answer that refuses it, in one line."""
    given = request.authorization
    who = (str(given.username), str(request.remote_addr)) if given else None
    if who and (left_s := _pause_left_s(who)) > 0:
        return _too_soon(left_s)
    sender = auth.authenticate_request_basic_auth()
    if who and "segops_password_seen" not in g:
        g.segops_password_seen = True
        _remember(who, wrong=isinstance(sender, Response))
    if isinstance(sender, Response) or request.method in SAFE:
        return sender
    if "segops_refusal" not in g:  # MLflow asks several times a request
        g.segops_refusal = _refusal(sender.username)
    if g.segops_refusal is None:
        return sender
    message = f"account '{sender.username}' may not do this: {g.segops_refusal}"
    answer = jsonify({"error_code": "PERMISSION_DENIED", "message": message})
    answer.status_code = 403
    return answer


def _pause_left_s(who: tuple[str, str]) -> float:
    """Seconds until this account may try a password from this address again."""
    failures, last_s = _wrong.get(who, (0, 0.0))
    pause_s = 0.0 if failures < FREE_TRIES else min(LONGEST_PAUSE_S, 2.0 ** (failures - FREE_TRIES))
    return last_s + pause_s - time.monotonic()


def _remember(who: tuple[str, str], *, wrong: bool) -> None:
    failures, _ = _wrong.pop(who, (0, 0.0))
    if wrong:
        _wrong[who] = failures + 1, time.monotonic()
    while len(_wrong) > MOST_REMEMBERED:
        _wrong.pop(next(iter(_wrong)), None)


def _too_soon(left_s: float) -> Response:
    answer = jsonify(
        {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "too many wrong passwords; wait, then try again"}
    )
    answer.status_code, answer.headers["Retry-After"] = 429, str(math.ceil(left_s))
    return answer


def _refusal(username: str) -> str | None:
    endpoint = request.endpoint
    if endpoint in READS | OWN:
        return None
    if endpoint == "_create_experiment":
        after_this_request(_share)
    user = auth.store.get_user(username)
    if user.is_admin:
        return None
    roles = {role.name for role in auth.store.list_user_roles(user.id)}
    if PROMOTER in roles:
        return _rewrites_a_decision(endpoint)
    if PIPELINE in roles:
        check = OF_THE_PIPELINE.get(endpoint)
        return check() if check is not None else None
    return f"it reads only; the administrator gives roles ({PIPELINE}, {PROMOTER})"


def _rewrites_a_decision(endpoint: str | None) -> str | None:
    """Decisions are written once: an entry that is closed stays, and so does the experiment that holds them."""
    experiments = _get_tracking_store()
    if endpoint in ("_delete_experiment", "_update_experiment"):
        kind = DeleteExperiment if endpoint == "_delete_experiment" else UpdateExperiment
        name = experiments.get_experiment(_get_request_message(kind()).experiment_id).name
        # A claim's own experiment (`..-decisions/model/000001`) is deleted as soon as it is made.
        ledger = holds_decisions(name) and ("/" not in name or endpoint == "_update_experiment")
        return "the ledger of decisions stays" if ledger else None
    for run_id in _run_ids():
        run = experiments.get_run(run_id)
        closed = run.info.status != "RUNNING" or endpoint == "_delete_run"
        if closed and holds_decisions(experiments.get_experiment(run.info.experiment_id).name):
            return "a decision that was made is never changed"
    return None


def _run_ids() -> set[str]:
    try:
        given = _get_normalized_request_json()
    except MlflowException:  # no JSON: the handler takes none either
        given = {}
    named = [*(given.get(name) for name in RUN_IDS if isinstance(given, dict)), *map(request.args.get, RUN_IDS)]
    return {one for one in named if isinstance(one, str) and one}


def _alias() -> str | None:
    kind = SetRegisteredModelAlias if request.endpoint == "_set_registered_model_alias" else DeleteRegisteredModelAlias
    alias = _get_request_message(kind()).alias
    return None if alias == CHALLENGER else f"moving the alias '{alias}' is a promoter's"


def _version() -> str | None:
    given = _get_request_message(DeleteModelVersion())
    aliases = set(_get_model_registry_store().get_model_version(given.name, given.version).aliases) - {CHALLENGER}
    return f"version {given.version} is '{min(aliases)}'" if aliases else None


def _experiment() -> str | None:
    creates = request.endpoint == "_create_experiment"
    given = _get_request_message(CreateExperiment() if creates else UpdateExperiment())
    name = given.name if creates else given.new_name
    return f"'{name}' is for decisions, which a promoter writes" if holds_decisions(name) else None


def _model() -> str | None:
    return "the registered model is the administrator's and the promoters'"


OF_THE_PIPELINE = {
    "_set_registered_model_alias": _alias,
    "_delete_registered_model_alias": _alias,
    "_delete_model_version": _version,
    "_create_experiment": _experiment,
    "_update_experiment": _experiment,
    "_rename_registered_model": _model,
    "_delete_registered_model": _model,
    # The ledger keeps its last entry in a tag, and the tag of a prompt would take the model out of the registry.
    "_set_registered_model_tag": _model,
    "_delete_registered_model_tag": _model,
}


def _share(answer: Response) -> Response:
    """After an experiment was made: the pipeline's accounts write into it, whoever made it."""
    if answer.status_code == 200 and not holds_decisions(_get_request_message(CreateExperiment()).name):
        share(auth.store, answer.get_json()["experiment_id"])
    return answer
