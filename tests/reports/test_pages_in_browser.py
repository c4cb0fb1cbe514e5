"""The comparison page as a reader sees it: keys, order, filters, masks on and off, themes, narrow screens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from segops.comparison.entrants import read_entrant
from segops.params.compare import CompareParams
from segops.reports.comparison_page import ComparisonPage
from segops.stages.compare import rank
from tests.support.browser import Visit, visit
from tests.support.judged_candidates import folders, write_candidate, write_registration
from tests.support.mlflow_server import own_names

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

WIDER = """[...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth)
  .map((box) => getComputedStyle(box, '::before').content)"""
DICES = {"steady": [0.9, 0.8, 0.7], "hasty": [0.3, 0.85, 0.7]}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of two candidates; images val00 and test00 differ by 0.6, val01 and test01 by -0.05."""
    root = tmp_path_factory.mktemp("page")
    places, params = folders(root), CompareParams()
    for name, dices in DICES.items():
        write_candidate(root, name, val=dices, test=dices)
        write_registration(root, own_names(), name, None)
    entrants = [read_entrant(name, places.reports / name, places.models / name) for name in DICES]
    path = Path(root / "index.html")
    path.write_text(ComparisonPage(rank(entrants, params), entrants, params).html({}), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def seen(browser: Browser, address: str) -> Iterator[Visit]:
    """The page in a wide window; nothing was asked for beside it, and nothing complains."""
    with visit(browser, address) as opened:
        yield opened
        assert [url for url in opened.requests if not url.startswith("data:")] == [address]
        assert opened.complaints == []


def names(seen: Visit) -> list[str]:
    """The images of the tiles, in order."""
    return seen.page.locator("#browser-tiles .name").all_inner_texts()


def focused(seen: Visit) -> str:
    """The image of the tile that has the keyboard."""
    return str(seen.page.evaluate("document.activeElement.querySelector('.name')?.textContent ?? ''"))


def test_images_that_differ_most_come_first_and_other_orders_can_be_had(seen: Visit) -> None:
    assert names(seen) == ["test00", "val00", "test01", "val01", "test02", "val02"]
    seen.page.select_option("#browser-sort", label="hasty is better than steady")
    assert names(seen)[:2] == ["test01", "val01"]
    seen.page.select_option("#browser-sort", label="steady is worst")
    assert names(seen) == ["test02", "val02", "test01", "val01", "test00", "val00"]
    seen.page.check("#browser-reverse")
    assert names(seen)[0] == "val00"


def test_filters_leave_what_they_name(seen: Visit) -> None:
    page = seen.page
    page.select_option("#browser-subset", "test")
    assert names(seen) == ["test00", "test01", "test02"]
    page.select_option("#browser-modality", "histology")
    assert names(seen) == ["test01"]
    assert page.inner_text("#browser-count") == "1 of 6 images"
    page.select_option("#browser-modality", "")
    page.select_option("#browser-group", "group02")
    assert names(seen) == ["test02"]
    assert not page.is_visible("#browser-class"), "all images have foreground: there is nothing to choose"


def test_an_image_is_enlarged_walked_through_and_closed_by_keys_alone(seen: Visit) -> None:
    page = seen.page
    page.focus(".shot")
    for key in ("ArrowRight", "j", "ArrowLeft"):
        page.keyboard.press(key)
    assert focused(seen) == "val00"
    page.keyboard.press("Enter")
    assert page.inner_text("#browser-title") == "val00"
    assert page.locator("#browser-panels h3").all_inner_texts() == ["source", "steady 0.900", "hasty 0.300"]
    shown = page.locator("#browser-panels figcaption").all_inner_texts()
    assert shown == ["image", "truth", *["prediction", "errors", "confidence"] * 2]
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#browser-title") == "test01"
    page.keyboard.press("Escape")
    assert not page.is_visible("#browser-view")
    # a dialog tells that it was closed a moment later
    page.wait_for_function("document.activeElement.querySelector('.name')?.textContent == 'test01'")


def test_masks_are_turned_off_and_errors_stay(seen: Visit) -> None:
    page = seen.page
    page.click(".shot")
    over, errors = page.locator("#browser-panels .stack:not(.bare) .over"), page.locator("#browser-panels .bare .over")
    assert over.count() == 3
    assert over.first.is_visible()
    page.keyboard.press("o")
    assert not over.first.is_visible()
    assert errors.first.is_visible()
    page.keyboard.press("o")
    assert over.first.is_visible()


def test_pictures_are_drawn_and_say_what_they_show(seen: Visit) -> None:
    page = seen.page
    page.click(".shot")
    pictures = "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"
    page.wait_for_function(pictures)
    assert page.locator("#browser-panels img:not([alt]), #browser-tiles img:not([alt])").count() == 0
    first = page.locator("#browser-tiles img").first.get_attribute("alt")
    assert first == "test00, test, group group00, fluorescence: Dice steady 0.900, hasty 0.300"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_wider_than_a_narrow_screen(browser: Browser, address: str, theme: str) -> None:
    with visit(browser, address, width=400, theme="dark" if theme == "dark" else "light") as narrow:
        assert narrow.overflows_px == 0
        wider = narrow.page.evaluate(WIDER)
        assert len(wider) > 5
        assert all("scroll to the side" in hint for hint in wider), "what is wider says so"
        narrow.page.click(".shot")
        box = narrow.page.locator("#browser-view").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 400
        ground = narrow.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(20, 23, 28)" if theme == "dark" else "rgb(255, 255, 255)")
        assert narrow.complaints == []


def test_the_nine_questions_are_answered_on_the_first_screen(seen: Visit) -> None:
    asked = seen.page.locator(".answers dt").all_inner_texts()
    assert asked == [
        "Which is better?",
        "By how much?",
        "Is it real?",
        "Where does it fail?",
        "What changed since the champion?",
        "What data?",
        "What code?",
        "How do I promote it?",
        "How do I go back?",
    ]
    last = seen.page.locator(".answers dd").last.bounding_box()
    assert last is not None
    assert last["y"] + last["height"] < 1000
