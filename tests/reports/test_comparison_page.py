"""The comparison page: one file that reads offline, with a text for every mark and every picture once."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup
from PIL import Image

from segops.comparison.entrants import Times, read_entrant, read_times
from segops.contracts.evaluation import Evaluation
from segops.contracts.scores import ReliabilityBin
from segops.errors import UserError
from segops.params.compare import CompareParams
from segops.pictures.overlays import over
from segops.reports.charts.comparison import HOVER, scatter
from segops.reports.comparison_page import ComparisonPage
from segops.reports.image_browser import image_browser
from segops.stages.compare import rank
from tests.support.judged_candidates import folders, write_candidate, write_registration, write_thumbnails
from tests.support.mlflow_server import own_names

PARAMS = CompareParams()
EVIL = "<script>&\"'"


class Page(HTMLParser):
    """What a page refers to, and the texts of its marks."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = re.findall(r"url\((.*?)\)", text)
        self.titles: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href", "srcset")]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["title"]:
            self.titles.append(data)


def make_page(root: Path, dices: Mapping[str, Sequence[float]], **given: Any) -> str:
    """Write candidates with these Dice scores, a bin of calibration each, and the page of their comparison."""
    places, entrants = folders(root), []
    for name, values in dices.items():
        write_candidate(root, name, val=values, test=values, **given)
        report = places.reports / name
        table = pd.read_csv(report / "per_image.csv")
        table.loc[0, "group_id"] = table.loc[0, "modality"] = EVIL
        table.to_csv(report / "per_image.csv", index=False)
        found = Evaluation.load(report)
        bins = [ReliabilityBin(low=0.4, high=0.5, pixels=10, confidence=0.45, frequency=0.25)]
        val = found.val.model_copy(update={"reliability": bins})
        found.model_copy(update={"val": val}).save(report)
        write_registration(root, own_names(), name, None)
        entrants.append(read_entrant(name, report, places.models / name))
    return ComparisonPage(rank(entrants, PARAMS), entrants, PARAMS).html({})


def browsed(page: str) -> Any:
    """What the page's script reads."""
    found = re.search(r'<script type="application/json" id="browser-data">(.*?)</script>', page, flags=re.DOTALL)
    assert found
    return json.loads(found[1])


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> str:
    dices = {"a": [0.9] * 7, "b": [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.9], "c": [0.3] * 7}
    return make_page(tmp_path_factory.mktemp("page"), dices)


def test_the_page_refers_to_nothing_outside_and_no_text_of_the_data_is_code(three: str) -> None:
    page = Page(three)
    assert page.references
    assert [one[:30] for one in page.references if not one.startswith(("#", "data:image/"))] == []
    assert not {"link", "iframe", "object", "base"} & set(page.tags)
    assert not re.search(r"http|@import|<\?xml|<!DOCTYPE svg|<[^>]* on\w+=", three)
    assert EVIL not in three
    assert str(Markup.escape(EVIL)) in three
    assert page.tags.count("script") == 2
    assert browsed(three)["rows"][0]["group"] == EVIL


def test_references_inside_the_page_have_one_target_each(three: str) -> None:
    ids = re.findall(r'\bid="([^"]*)"', three)
    assert len(ids) == len(set(ids))
    assert {one.removeprefix("#") for one in Page(three).references if one.startswith("#")} <= set(ids)


def test_marks_say_what_they_are(three: str) -> None:
    titles = Page(three).titles
    assert "val01, group group01 (validation): a 0.900, b 0.600" in titles
    assert f"val00, group {EVIL} (validation): a 0.900, b 0.500" in titles
    assert "b: 10 pixels above 0.40, confidence 0.450, frequency 0.250" in titles
    assert any(one.startswith("a - b, test: +0.1") for one in titles)
    # Each of three pairs has 7 images in two subsets.
    assert sum(", group " in one for one in titles) == 3 * 7 * 2


def test_drawings_take_the_readers_theme(three: str) -> None:
    assert "var(--accent)" in three
    assert "var(--series-2)" in three
    assert not re.search("#0[12]00[0-9a-f]{2}", three)


def test_every_image_is_there_with_what_each_candidate_makes_of_it(three: str) -> None:
    data = browsed(three)
    assert data["candidates"] == ["a", "b", "c"]
    assert data["pairs"] == [[0, 1], [0, 2], [1, 2]]
    assert [row["id"] for row in data["rows"]] == [f"{subset}{i:02}" for subset in ("val", "test") for i in range(7)]
    row = data["rows"][1]
    assert (row["subset"], row["group"], row["size"]) == ("validation", "group01", "64x64 px")
    assert (row["dice"], row["classes"]) == ([0.9, 0.6, 0.3], ["with foreground"])
    pictures = row["pictures"]
    assert pictures["ratio"] == "48 / 32"
    kinds = [pictures["image"], pictures["truth"], *pictures["masks"], *pictures["confidences"]]
    assert [uri.split(";")[0] for uri in kinds] == [
        f"data:image/{kind}" for kind in ["jpeg", *["png"] * 4, *["jpeg"] * 3]
    ]


def test_pictures_of_a_page_are_bounded_and_the_worst_images_keep_theirs(tmp_path: Path) -> None:
    make_page(tmp_path, {"a": [0.9, 0.2, 0.8], "b": [0.9, 0.9, 0.4]})
    places = folders(tmp_path)
    entrants = [read_entrant(name, places.reports / name, places.models / name) for name in ("a", "b")]
    whole = image_browser(entrants, 20)
    assert (whole.images, whole.with_pictures, whole.kept) == (6, 6, 6)
    sizes = {row["id"]: len(json.dumps(row["pictures"])) for row in json.loads(whole.data)["rows"]}
    some = image_browser(entrants, 2.9 * sizes["val01"] / 2**20)
    assert some.with_pictures == 2
    shown = [row["id"] for row in json.loads(some.data)["rows"] if "pictures" in row]
    assert shown == ["val01", "test01"]  # of a Dice of 0.2; their rows stay in their places
    assert image_browser(entrants, 0).with_pictures == 0
    page = ComparisonPage(rank(entrants, PARAMS), entrants, CompareParams(page_mib=0)).html({})
    assert "0 of 6 images have\npictures here" in page
    assert "compare.page_mib" in page


def test_one_candidate_has_a_page_without_pairs(tmp_path: Path) -> None:
    page = make_page(tmp_path, {"alone": [0.8, 0.9]})
    assert "Is the lead real" not in page
    assert "Subgroups" not in page
    assert "Calibration" in page


def test_several_classes_are_shown_one_by_one(tmp_path: Path) -> None:
    classes = ("background", EVIL, "axon")
    page = make_page(tmp_path, {"a": [0.9] * 6, "b": [0.6] * 6}, classes=classes)
    assert "Dice by class" in page
    assert "by class" in page[page.index("Subgroups") :]
    assert EVIL not in page


def test_more_images_than_hover_are_one_picture_of_those_that_differ_least() -> None:
    count = HOVER + 50
    up = np.linspace(0.5, 1, count)
    rows = pd.DataFrame({"image_id": [f"i{i:05}" for i in range(count)], "group_id": "g", "dice_a": up, "dice_b": 0.5})
    rows["change"] = rows["dice_a"] - rows["dice_b"]
    drawn = scatter("a", "b", {"val": rows})
    assert drawn.count("<title>") == HOVER
    assert "i00049," not in drawn
    assert "i00050," in drawn
    assert "data:image/png;base64" in drawn


def test_over_an_image_lie_the_rim_and_the_errors() -> None:
    truth, predicted = np.zeros((5, 9), np.uint8), np.zeros((5, 9), np.uint8)
    truth[:, 0:4], predicted[:, 4:9] = 1, 1
    with Image.open(io.BytesIO(over(truth, predicted, ["#000000", "#ffffff"]))) as read:
        shown = np.asarray(read.convert("RGBA"))
    assert shown[2, 2].tolist() == [86, 180, 233, 150]  # missed
    assert shown[2, 6].tolist() == [230, 159, 0, 150]  # predicted alone
    assert shown[0, 6].tolist() == [240, 228, 66, 255]  # its rim
    assert over(truth * 200, predicted, ["#000000"] * 201) == over(truth, predicted, ["#000000"] * 2)
    right = Image.open(io.BytesIO(over(predicted, predicted, ["#000000", "#ffffff"]))).convert("RGBA")
    assert np.asarray(right)[2, [2, 6], 3].tolist() == [0, 0]


def test_errors_among_several_classes_have_the_predicted_classs_colour() -> None:
    truth, predicted = np.full((5, 12), 2, np.uint8), np.zeros((5, 12), np.uint8)
    predicted[:, 4:] = 1
    with Image.open(io.BytesIO(over(truth, predicted, ["#000000", "#102030", "#405060"]))) as read:
        shown = np.asarray(read.convert("RGBA"))
    assert shown[2, 2].tolist() == [255, 255, 255, 150]
    assert shown[2, 8].tolist() == [16, 32, 48, 150]
    assert shown[0, 8].tolist() == [16, 32, 48, 255]


def test_times_come_from_run_json_and_may_be_absent(tmp_path: Path) -> None:
    report, model = tmp_path / "report", tmp_path / "model"
    assert read_times(report, model) == Times(None, None, "")
    cost = {"milliseconds_an_image": 12.5, "device": "a GPU"}
    for folder, content in ((report, {"cost": cost}), (model, {"seconds": 60, "device": "cpu"})):
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps(content))
    assert read_times(report, model) == Times(12.5, 60.0, "cpu, a GPU")
    (model / "run.json").write_text("{half")
    assert read_times(report, model) == Times(12.5, None, "a GPU")


def test_a_candidate_without_thumbnails_is_refused_in_one_line(tmp_path: Path) -> None:
    write_candidate(tmp_path, "a")
    write_registration(tmp_path, own_names(), "a", None)
    places = folders(tmp_path)
    (places.reports / "a" / "thumbnails.zip").unlink()
    with pytest.raises(UserError, match=r"candidates/a/thumbnails.zip: no such file; run evaluate again"):
        read_entrant("a", places.reports / "a", places.models / "a")


def test_images_without_a_picture_in_both_are_listed_without(tmp_path: Path) -> None:
    make_page(tmp_path, {"a": [0.9] * 6, "b": [0.6] * 6})
    places = folders(tmp_path)
    table = pd.read_csv(places.reports / "b" / "per_image.csv")
    write_thumbnails(places.reports / "b" / "thumbnails.zip", table[table["image_id"] == "val04"])
    entrants = [read_entrant(name, places.reports / name, places.models / name) for name in ("a", "b")]
    page = ComparisonPage(rank(entrants, PARAMS), entrants, PARAMS).html({})
    assert [row["id"] for row in browsed(page)["rows"] if "pictures" in row] == ["val04"]
    assert "1 of 12 images have\npictures here" in page
    assert "evaluate keeps those of 1" in page
