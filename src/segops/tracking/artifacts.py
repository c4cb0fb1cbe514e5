"""Files of MLflow's artifact store. For any failed download MLflow itself says that the path may be wrong; here only a
file that the server says it doesn't have counts as missing.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from segops.errors import TryAgainError, UserError, disk_full
from segops.files import MIB, atomic_path
from segops.tracking import store
from segops.tracking.faults import answer_lost, may_pass

if TYPE_CHECKING:
    from requests import Response

_CONNECT_S, _BLOCK = 5, MIB
# S3's own words, which a server passes on in an answer of another status; the last is MLflow's, of a folder.
_MISSING = re.compile(r"\(404\)|NoSuchKey|RESOURCE_DOES_NOT_EXIST|No such (file|artifact)", re.IGNORECASE)
_UNANSWERED = re.compile("Could not connect|timed? ?out|refused|reset|closed", re.IGNORECASE)  # botocore's words
_UNSIGNED = (404, 501)  # of a server that signs no URLs


def fetch(location: str, name: str, folder: Path) -> Path:
    """Download the file `name` below an artifact location into the existing `folder` and return its path.

    A large file goes through MLflow's server too, unless MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD is true: then straight
    from the S3 server that MLflow's server names.

    Args:
        location: the artifact location of a run or a logged model: `mlflow-artifacts:/..`, `file:///..`, `s3://..`.
        name: the file's path below that location.

    Raises:
        FileNotFoundError: the store says that it isn't there.
        OneLineError: S3 doesn't answer or refuses us. That of MLflow comes from `store.answering`, around the call.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

    parent, leaf = posixpath.split(f"{location.rstrip('/')}/{name}")
    repository = get_artifact_repository(parent, tracking_uri=store.tracking_uri())
    if isinstance(repository, HttpArtifactRepository):
        return _save(_answer(repository.artifact_uri, leaf), folder / leaf)
    try:
        return Path(repository.download_artifacts(leaf, str(folder)))
    except Exception as error:
        if isinstance(error, FileNotFoundError) or _MISSING.search(str(error)):
            raise FileNotFoundError(f"{location}/{name}") from None
        if (full := disk_full(error, folder)) is not None:
            raise full from None
        kind = TryAgainError if any(map(_may_pass, _causes(error))) else UserError
        raise kind(f"{location}/{name} can't be read: {store.reason(error)}") from None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came from: MLflow's own leaves S3's code out."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _may_pass(error: BaseException) -> bool:
    """Tell whether S3 didn't answer, or not as it should."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's
        return may_pass(int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)))
    return _UNANSWERED.search(str(error)) is not None


def _answer(root: str, name: str) -> Response:
    """Return the response that holds a file; raise FileNotFoundError when the server says there is none."""
    from mlflow.environment_variables import MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD

    if MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD.get():
        server, _, path = root.partition("/mlflow-artifacts/artifacts")
        signed = _get(server, f"/mlflow-artifacts/presigned{path}/{name}")
        if signed.status_code not in _UNSIGNED:
            return _straight(_checked(signed, name).json())
    return _checked(_get(root, f"/{name}"), name)


def _get(root: str, path: str) -> Response:
    """Send one GET request, once, with mlflow's credentials, TLS settings, proxies and MLFLOW_HTTP_REQUEST_TIMEOUT."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    creds = get_default_host_creds(root)
    answer: Response = http_request(creds, quote(path), "GET", stream=True, max_retries=0, raise_on_status=False)
    return answer


def _straight(signed: dict[str, Any]) -> Response:
    """Request a file from the S3 server itself by the signed URL and headers that MLflow gave."""
    import requests
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT, MLFLOW_S3_IGNORE_TLS

    url, timeout = str(signed["url"]), (_CONNECT_S, MLFLOW_HTTP_REQUEST_TIMEOUT.get())
    verify = not MLFLOW_S3_IGNORE_TLS.get()
    try:
        answer = requests.get(url, headers=signed["headers"], stream=True, timeout=timeout, verify=verify)
        answer.raise_for_status()
        return answer
    except requests.RequestException as error:
        kind = TryAgainError if answer_lost(error) else UserError
        raise kind(
            f"MLflow sends us to {'/'.join(url.split('/')[:3])} for artifacts, which fails from here "
            f"({store.reason(error)}); unset MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD to fetch them through MLflow"
        ) from None


def _checked(answer: Response, name: str) -> Response:
    """Return the answer if it holds a file; raise FileNotFoundError if the file is missing, else requests' error."""
    if answer.status_code == 404 or (answer.status_code >= 500 and _MISSING.search(answer.text)):
        raise FileNotFoundError(name)
    answer.raise_for_status()
    return answer


def _save(answer: Response, path: Path) -> Path:
    """Stream an answer into a file that appears whole or not at all, and return its path."""
    with answer, atomic_path(path) as partial, partial.open("wb") as file:
        for block in answer.iter_content(_BLOCK):
            file.write(block)
    return path
