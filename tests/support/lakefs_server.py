"""A double of lakeFS: what its openapi says of commits, and moto's S3 as its gateway, at one address.

lakeFS sends a request to the gateway where it is signed as for AWS, else to the API (`cmd/lakefs/cmd/run.go`). In the
gateway a repository is a bucket, and an object's name begins with a reference.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pytest

KEY, SECRET = "AKIALAKEFS", "lakefs-secret"


@dataclass
class LakeFS:
    """What the server knows.

    Attributes:
        references: commits by repository and reference.
        faults: answered before anything else, one by one.
        url: of the server.
    """

    references: dict[str, dict[str, str]]
    faults: list[tuple[int, str]] = field(default_factory=list)
    url: str = ""

    def commit(self, path: str, authorization: str) -> tuple[int, str]:
        """Answer `getCommit`: `/api/v1/repositories/{repository}/commits/{commitId}`."""
        if self.faults:
            return self.faults.pop(0)
        if authorization != f"Basic {base64.b64encode(f'{KEY}:{SECRET}'.encode()).decode()}":
            return 401, json.dumps({"message": "error authenticating request"})
        parts = path.split("/")
        if parts[:4] != ["", "api", "v1", "repositories"] or len(parts) != 7 or parts[5] != "commits":
            return 404, json.dumps({"message": "invalid API endpoint"})
        repository, reference = (unquote(part) for part in (parts[4], parts[6]))
        if repository not in self.references:
            return 404, json.dumps({"message": "repository not found"})
        if reference not in self.references[repository]:
            return 404, json.dumps({"message": "commit not found"})
        commit = {
            "id": self.references[repository][reference],
            "parents": [],
            "committer": "ann",
            "message": "cells",
            "creation_date": 1764201600,
            "meta_range_id": "",
        }
        return 200, json.dumps(commit)


@contextmanager
def lakefs_server(known: LakeFS) -> Iterator[LakeFS]:
    """Serve on a free port."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    gateway = DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        if authorization.startswith("AWS4-HMAC-SHA256"):
            answer: Iterable[bytes] = gateway(environ, start_response)
            return answer
        status, body = known.commit(environ["RAW_URI"], authorization)
        start_response(f"{status} Answer", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body.encode()]

    server = make_server("127.0.0.1", 0, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    known.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield known
    finally:
        server.shutdown()


def use_lakefs(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Set what lakeFS's own clients read."""
    monkeypatch.setenv("LAKECTL_SERVER_ENDPOINT_URL", url)
    monkeypatch.setenv("LAKECTL_CREDENTIALS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
