"""Chromium of the machine, driven by Playwright: pages as a reader sees them, and what they ask for or complain of."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
Theme = Literal["light", "dark"]


@dataclass(frozen=True)
class Visit:
    """An open page, the addresses that it asked for, and its errors: of the console, and those that nothing caught."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def overflows_px(self) -> int:
        """How far the page can be scrolled to the side."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@contextmanager
def launched() -> Iterator[Browser]:
    """Start Chromium without a screen; the test is skipped where it or Playwright isn't there."""
    sync_api = pytest.importorskip("playwright.sync_api")
    program = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("needs Chromium (Debian: `apt-get install chromium`)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(
    browser: Browser, address: str, *, width: int = 1600, height: int = 1000, theme: Theme = "light"
) -> Iterator[Visit]:
    """Open an address, `file://` or `http://`, in a window of that size, with no cache or cookie of other visits."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
    opened = Visit(context.new_page())
    opened.page.on("request", lambda request: opened.requests.append(request.url))
    opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.page.on(
        "console", lambda message: opened.complaints.append(message.text) if message.type == "error" else None
    )
    try:
        opened.page.goto(address)
        yield opened
    finally:
        context.close()
