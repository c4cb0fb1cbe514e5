"""Opens MLflow where the candidates are compared, and says where all pages are.

A person's command, not a graph stage.
"""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from segops.errors import OneLineError
from segops.params.tracking import TrackingParams
from segops.progress import say
from segops.stages.compare import PAGE_FILE

if TYPE_CHECKING:
    from segops.tracking.pages import Links

_NO_CANDIDATE = "#/experiments?workflowType=machine_learning"


def ui(
    tracking: TrackingParams, *, port: int, comparison: Path, browse: bool, show: Callable[[dict[str, str]], None]
) -> None:
    """Show the addresses of a project's pages, open the candidates' view, and serve the UI until interrupted.

    A team's server is opened and not served.

    Args:
        port: of this machine, where the project's own store is served.
        comparison: the folder of our own page.
        browse: open a browser, where there is a screen.
        show: gets the addresses by name once they can be opened.
    """
    from segops.tracking import store
    from segops.tracking.ui_server import serving

    links = _renewed(tracking)
    page = comparison.resolve() / PAGE_FILE
    own = {"our comparison page": page.as_uri()} if page.is_file() else {}
    if store.is_remote(store.tracking_uri()):
        _open(addresses(store.shown(store.tracking_uri()), links) | own, browse, show)
        return
    with serving(port) as server:
        _open(addresses(f"http://127.0.0.1:{port}", links) | own, browse, show)
        say("MLflow's server runs until Ctrl-C")
        try:
            server.wait()
        except KeyboardInterrupt:
            say("MLflow's server ended")


def addresses(server: str, links: Links | None) -> dict[str, str]:
    """Name the pages of a project at a server, the one to begin with first."""
    base = server.rstrip("/")
    if links is None:
        return {"MLflow": f"{base}/{_NO_CANDIDATE}"}
    named = {
        "candidates": links.runs,
        "charts and pictures": links.charts,
        "comparison": links.comparison,
        "registered model": links.model,
    }
    return {name: f"{base}/{path}" for name, path in named.items() if path}


def _renewed(tracking: TrackingParams) -> Links | None:
    """Find the pages, and show the aliases as they are now; a reader may not write that, and goes on without."""
    from segops.tracking import pages, store

    client = store.client(tracking)
    with store.answering():
        links = pages.links(client, tracking)
    try:
        with store.answering():
            pages.show_aliases(client, tracking)
    except OneLineError as error:
        say(f"the column `alias` may be of before: {error}")
    return links


def _open(shown: dict[str, str], browse: bool, show: Callable[[dict[str, str]], None]) -> None:
    """Show the addresses and open the first in a browser, but none that would take over a terminal."""
    show(shown)
    screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if browse and screen:
        webbrowser.open(next(iter(shown.values())))
