"""Fetches archives behind http:// and https:// URLs.

Proxies and CA bundles come from the environment that `requests` reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from segops.data.sources.download import Fetched, Interrupted, download, patiently
from segops.errors import UserError
from segops.secrets import channel_fault, without_secrets

if TYPE_CHECKING:
    import requests

_TIMEOUT_S = (10, 20)  # to connect, and between bytes
_REDIRECTS = 5
_PIECE_BYTES = 2**18
_HINTS = {
    401: "the server wants a login; put user and password into ~/.netrc",
    403: "the server refuses access; ask its owner",
    404: "there is no such file; correct the URL",
    407: "the proxy wants a login; set HTTPS_PROXY with user and password",
    410: "the file is gone; find a new URL",
}


class HttpFile:
    """A file behind a URL, after redirects. Raises UserError or Interrupted when the server doesn't give it."""

    def __init__(self, url: str) -> None:
        import requests

        self.uri = without_login(url)
        self.key = without_secrets(url)  # a signature is another each time
        self._url = url
        login = requests.utils.get_netrc_auth(url)
        if (fault := channel_fault(url, "the login of ~/.netrc" if login else None)) is not None:
            raise UserError(fault)
        self._session = requests.Session()
        self._session.max_redirects = _REDIRECTS
        self._session.headers["Accept-Encoding"] = "identity"  # a packed body would have other bytes
        with self._get("bytes=0-0", None) as response:
            headers = response.headers
            self.ranges = response.status_code == requests.codes.partial_content
            size = headers.get("Content-Range", "").rpartition("/")[2] if self.ranges else headers.get("Content-Length")
            if not size or not size.isdecimal():
                raise UserError(f"{self.uri}: the server doesn't say how long the file is; download it by other means")
            self.size_bytes = int(size)
            etag = headers.get("ETag", "")
            self.version = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")

    def read(self, begin: int, end: int) -> Iterator[bytes]:
        """Yield the bytes begin..end - 1, of the version that was found first."""
        with self._get(f"bytes={begin}-{end - 1}" if self.ranges else None, self.version) as response:
            if self.ranges and response.status_code == 200:  # If-Range: another version is sent as a whole
                raise UserError(f"{self.uri}: the file changed while it was fetched; run the same command again")
            with network():
                yield from response.iter_content(_PIECE_BYTES)

    def check(self, path: Path) -> str | None:
        """Nothing: no header is relied on, `ingest.sha256` is the check."""

    @contextmanager
    def _get(self, span: str | None, version: str | None) -> Iterator[requests.Response]:
        """Ask for a file or a span of its bytes; with a version, a changed file is sent as a whole."""
        headers = {"Range": span} if span else {}
        if span and version:
            headers["If-Range"] = version
        with (
            network(self.uri),
            self._session.get(self._url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response,
        ):
            _check_status(response.status_code, self.uri)
            yield response


def fetch(url: str, cache: Path, *, sha256: str | None, connections: int) -> Fetched:
    """Fetch an archive; `ingest.sha256` must be given, since a URL's content may change without a word.

    Raises: UserError: no sha256 (the text names the file's), no such file, a server that keeps failing.
    """
    remote = patiently(lambda: HttpFile(url), without_login(url))
    path = download(remote, cache, connections=connections)
    if sha256 is None:
        from segops.files import sha256_file

        raise UserError(f"ingest.sha256: {remote.uri} needs one; the file that is there now has {sha256_file(path)}")
    return Fetched(path, remote.uri, remote.version)


def state(url: str) -> str:
    """Return what names the present content behind a URL: ETag or time of change, and length.

    Raises: UserError as `fetch`, or where the server tells neither.
    """
    remote = patiently(lambda: HttpFile(url), without_login(url))
    if remote.version is None:
        raise UserError(f"{remote.uri}: the server tells neither ETag nor Last-Modified; pin the file by its sha256")
    return f"{remote.version} {remote.size_bytes}"


def without_login(url: str) -> str:
    """Return a URL without login and query, which may hold a signature by any name."""
    parts = urlsplit(without_secrets(url))
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


def _check_status(status: int, uri: str) -> None:
    """Raise Interrupted for an answer that may pass, UserError with the fix for another refusal."""
    if status < 400:
        return
    if status in (408, 425, 429) or status >= 500:
        raise Interrupted(f"the server answered {status}")
    raise UserError(f"{uri}: the server answered {status}: {_HINTS.get(status, 'correct the URL')}")


@contextmanager
def network(uri: str = "") -> Iterator[None]:
    """Turn what requests raises into Interrupted, or into a UserError where asking again can't help."""
    import requests

    try:
        yield
    except requests.exceptions.TooManyRedirects:
        raise UserError(f"{uri}: over {_REDIRECTS} redirects, maybe in a circle; use the file's final URL") from None
    except requests.exceptions.SSLError as error:
        raise UserError(
            f"{uri}: TLS certificate not accepted ({_reason(error)}); set REQUESTS_CA_BUNDLE to your CA's file"
        ) from None
    except requests.exceptions.ProxyError as error:
        raise UserError(f"{uri}: the proxy fails ({_reason(error)}); correct HTTP_PROXY, HTTPS_PROXY") from None
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema) as error:
        raise UserError(f"ingest.source: {uri}: not a URL ({_reason(error)}); correct it") from None
    except requests.exceptions.RequestException as error:
        raise Interrupted(_reason(error)) from None


def _reason(error: Any) -> str:
    """Word the reason of a network error: a known short form, else its first line."""
    text = str(error)
    for sign, reason in {
        "NameResolution": "unknown host",
        "refused": "connection refused",
        "timed out": "timed out",
        "IncompleteRead": "the connection was cut",
        "reset": "the connection was cut",
        "RemoteDisconnected": "the connection was cut",
    }.items():
        if sign in text:
            return reason
    return text.splitlines()[0][:200] if text else type(error).__name__
