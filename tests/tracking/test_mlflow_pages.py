"""MLflow's pages in Chromium: three candidates by the real stages, each link opened, and what a reader finds there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from PIL import Image

from segops.commands.ui import addresses
from segops.params.compare import CompareParams
from segops.params.register import Floors, RegisterParams
from segops.stages.compare import compare
from segops.stages.register import register
from segops.tracking import pages, saved_view, store
from tests.support.browser import Visit, visit
from tests.support.judged_candidates import folders, write_candidate
from tests.support.mlflow_server import MlflowServer, own_names

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Frame, Page

pytest_plugins = ["tests.support.mlflow_stores"]
pytestmark = pytest.mark.browser

WAIT_MS = 120_000  # at most: a loaded machine needs long
VAL = {"weak": (0.3, 0.4, 0.5), "middle": (0.7, 0.8, 0.9), "strong": (0.8, 0.9, 0.94)}
ROWS = {
    "strong": "0.8800 (0.8000 to 0.9400)",
    "middle": "0.8000 (0.7000 to 0.9000)",
    "weak": "0.4000 (0.3000 to 0.5000)",
}
BRIGHTNESS = """img => {
  const canvas = document.createElement('canvas'), context = canvas.getContext('2d');
  canvas.width = img.naturalWidth; canvas.height = img.naturalHeight;
  context.drawImage(img, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  return [img.naturalWidth, new Set(Array.from({length: data.length / 4}, (_, i) => data[4 * i])).size];
}"""


class Project(NamedTuple):
    """Candidates in a server's store, and where their pages are."""

    client: Any
    server: str
    experiment_id: str
    links: dict[str, str]

    def run(self, candidate: str) -> Any:
        [found] = self.client.search_runs([self.experiment_id], f"tags.candidate = '{candidate}'")
        return found


@pytest.fixture(scope="module")
def project(server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three candidates, one of which misses a floor, by the stages `register` and `compare`."""
    root, tracking = tmp_path_factory.mktemp("project"), own_names()
    places, params = folders(root), RegisterParams(floors=Floors(dice=0.5, iou=0.3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server.uri)
        patch.setenv("DVC_ROOT", str(root))
        for name, dice in VAL.items():
            write_candidate(root, name, val=dice, test=dice)
            panel = places.models / name / "panels" / "epoch_0003" / "val00.png"
            panel.parent.mkdir(parents=True)
            Image.linear_gradient("L").convert("RGB").save(panel)
            register(params, tracking, model=places.models / name, report=places.reports / name)
        compare(
            CompareParams(), tracking, list(VAL), reports=places.reports, models=places.models,
            comparison=places.comparison,
        )  # fmt: skip
        client = store.client()
        experiment_id = str(store.find_experiment(client, tracking.experiment))
        return Project(client, server.uri, experiment_id, addresses(server.uri, pages.links(client, tracking)))


def _shows(page: Page | Frame, *texts: str) -> None:
    for text in texts:
        page.wait_for_function("text => document.body.innerText.includes(text)", arg=text, timeout=WAIT_MS)


def _frame(page: Page) -> Frame:
    """The page that MLflow shows inside its own."""
    frame = page.wait_for_selector("iframe", timeout=WAIT_MS)
    assert frame is not None
    shown = frame.content_frame()
    assert shown is not None
    return shown


def test_the_table_begins_with_the_decision_and_ranks_candidates_by_validation(
    browser: Browser, project: Project
) -> None:
    with visit(browser, project.links["candidates"], width=2400) as opened:
        _shows(opened.page, *ROWS.values(), "challenger", "take strong")
        shown = opened.page.inner_text("body")
        assert sorted(ROWS, key=lambda name: shown.index(ROWS[name])) == ["strong", "middle", "weak"]
        for column in ("validation Dice", "test Dice", "alias", "Models", "val/native_ece", "model/parameters"):
            assert column in shown
        for other in ("system/", "learning_rate", "segops.key"):
            assert other not in shown


def _images(key: str) -> str:
    """A selector of the pictures of a key."""
    return f"img[src*='pictures~{key}'], img[src*='pictures%7E{key}']"


def _pictures(opened: Visit, key: str) -> list[list[int]]:
    """Width in px, and number of different brightnesses, of each picture of a key that is shown."""
    there = "words => document.querySelectorAll(words).length >= 3"
    opened.page.wait_for_function(there, arg=_images(key), timeout=WAIT_MS)
    images = opened.page.locator(_images(key))
    return [images.nth(number).evaluate(BRIGHTNESS) for number in range(images.count())]


def test_charts_stand_in_their_order_and_pictures_are_side_by_side_large_and_not_blank(
    browser: Browser, project: Project
) -> None:
    with visit(browser, project.links["charts and pictures"], width=2400, height=5600) as opened:
        headings = ["Curves", "Scores and their intervals", "What differs", "Test images", "Confusion of pixels"]
        _shows(opened.page, *headings)
        shown = opened.page.inner_text("body")
        assert sorted(headings, key=shown.index) == headings
        for key, least_px in {"test": 400, "curves": 400, "confusion": 400, "gradcam": 600}.items():
            found = _pictures(opened, key)
            assert len(found) == 3, key
            assert all(width >= least_px and colours > 20 for width, colours in found), (key, found)
        tops = [image.bounding_box() for image in opened.page.locator(_images("test")).all()]
        assert len({box["y"] for box in tops if box}) == 1
        assert "recipe.batch_size=" not in shown  # a picture's caption is the candidate's name alone


def test_the_comparison_opens_in_mlflow(browser: Browser, project: Project) -> None:
    with visit(browser, project.links["comparison"]) as opened:
        frame = _frame(opened.page)
        _shows(frame, "strong")
        assert "middle" in frame.inner_text("body")


def test_the_registered_model_has_both_versions_and_the_alias(browser: Browser, project: Project) -> None:
    with visit(browser, project.links["registered model"]) as opened:
        _shows(opened.page, "Version 1", "Version 2", "challenger", "charts and pictures")


def test_a_run_leads_to_gallery_card_and_data(browser: Browser, project: Project) -> None:
    page_of = f"{project.server}/#/experiments/{project.experiment_id}/runs/{project.run('strong').info.run_id}"
    with visit(browser, page_of, height=1400) as opened:
        _shows(opened.page, "0.880 (0.800 to 0.940)")
        if (more := opened.page.get_by_text("Show more")).count():
            more.first.click()
        places: list[str] = opened.page.eval_on_selector_all("a", "links => links.map(link => link.href)")
    named = {
        name: [place for place in places if name in place] for name in ("gallery.html", "model_card.md", "per_image")
    }
    assert all(named.values()), places
    for name, text in {"gallery.html": "strong", "model_card.md": "Intended"}.items():
        with visit(browser, named[name][0]) as opened:
            body: Any = opened.page
            if name.endswith("html"):
                body = _frame(opened.page)
                assert body.title() == text
            else:
                opened.page.wait_for_function("() => document.body.innerText.includes('odel card')", timeout=WAIT_MS)


def test_who_registers_again_writes_neither_view_nor_note(project: Project) -> None:
    before = project.client.get_experiment(project.experiment_id).tags
    saved_view.keep_view_of(project.client, project.run("weak"))
    pages.keep_note(project.client, project.experiment_id, "not compared", renew=False)
    assert project.client.get_experiment(project.experiment_id).tags == before
