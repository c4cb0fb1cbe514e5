"""How long a comparison page takes to answer its questions: `python -m benchmarks.answer_times PAGE.html`.

Chromium opens the page at two widths. For each question the script presses Page Down until the answer is in view, as a
reader would who looks at nothing else, and prints the presses, the milliseconds from asking for the page until the
answer is in view, the words of the answer, and the seconds that reading them takes at 200 words a minute. It is a
proxy: no person is timed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.browser import launched, visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_WINDOWS = {"1600 x 1000": (1600, 1000), "400 x 800": (400, 800)}
_WORDS_A_SECOND = 200 / 60
_IN_VIEW = """number => {
  const box = document.querySelectorAll('.answers dd')[number].getBoundingClientRect();
  return box.top >= 0 && box.bottom <= innerHeight;
}"""
_SCROLL = "() => { const before = scrollY; scrollBy(0, 0.9 * innerHeight); return scrollY > before; }"


def answer(browser: Browser, page: Path, number: int, window: tuple[int, int]) -> tuple[str, str, int, float]:
    """Return a question, its answer, the scrolls until the answer is in view, and the milliseconds from the start."""
    width, height = window
    begin = time.perf_counter()
    with visit(browser, page.resolve().as_uri(), width=width, height=height) as seen:
        scrolls = 0
        while not seen.page.evaluate(_IN_VIEW, number) and seen.page.evaluate(_SCROLL):
            scrolls += 1
        took_ms = (time.perf_counter() - begin) * 1000
        question = seen.page.locator(".answers dt").nth(number).inner_text()
        said = " ".join(seen.page.locator(".answers dd").nth(number).inner_text().split())
        return question, said, scrolls, took_ms


def main() -> None:
    """Print a row per window and question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    page = parser.parse_args().page
    with launched() as browser:
        with visit(browser, page.resolve().as_uri()) as seen:
            questions = seen.page.locator(".answers dt").count()
        for name, window in _WINDOWS.items():
            print(f"\n| window {name}: question | answer | scrolls | ms | words | s to read |")
            print("|---|---|---|---|---|---|")
            for number in range(questions):
                question, said, scrolls, took_ms = answer(browser, page, number, window)
                words = len(said.split())
                print(f"| {question} | {said} | {scrolls} | {took_ms:.0f} | {words} | {words / _WORDS_A_SECOND:.0f} |")


if __name__ == "__main__":
    main()
