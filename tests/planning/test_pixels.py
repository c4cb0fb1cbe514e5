"""What pixels tell: widths of objects by construction, ids and classes, strays, pixel sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segops.data.layouts.layout import find_examples
from segops.data.sources.source import FolderSource
from segops.errors import UserError
from segops.params.ingest import IngestParams
from segops.planning.classes import Classes, guess_thing, look_like_ids, read_classes
from segops.planning.pixels import COLOUR, Look, MaskFacts, evenly, look, mask_facts
from tests.support.factories import make_pairs


def classes_of(*masks: np.ndarray, rule: str = "values", named: dict[int, str] | None = None) -> Classes:
    return read_classes(Look(len(masks), masks=[mask_facts([mask]) for mask in masks]), rule, ["cells"], named or {})


def test_a_strips_width_is_measured() -> None:
    mask_HW = np.zeros((40, 200), np.uint8)
    mask_HW[10:20] = 1
    (width,) = mask_facts([mask_HW]).widths_px
    assert width == pytest.approx(12, abs=1)  # distances 1, 2, .. 5, 5, .. 1: mean 3


def test_a_discs_width_is_two_thirds_of_its_diameter() -> None:
    y, x = np.ogrid[:101, :101]
    (width,) = mask_facts([(np.hypot(y - 50, x - 50) <= 30).astype(np.uint8)]).widths_px
    assert width == pytest.approx(40, rel=0.1)


def test_each_object_of_a_mask_an_object_is_measured() -> None:
    first, second = np.zeros((2, 20, 20), np.uint8)
    first[2:6, 2:6], second[10:18, 10:18] = 255, 255
    facts = mask_facts([first, second])
    assert len(facts.widths_px) == 2
    assert facts.pixels == {0: 400 - 16 - 64, 255: 16 + 64}


def blocks(ids: list[int]) -> np.ndarray:
    """A mask of a square for each id."""
    mask_HW = np.zeros((8, 8 * len(ids)), np.uint16)
    for place, label in enumerate(ids):
        mask_HW[2:6, 8 * place + 2 : 8 * place + 6] = label
    return mask_HW


def test_ids_of_objects_are_told_from_classes() -> None:
    ids = [mask_facts([blocks([*range(1, n + 1)])]) for n in (3, 5, 2)]
    assert look_like_ids(ids)
    many = [mask_facts([blocks([7, 900, 31, 5, 77, 12, 13])]), mask_facts([blocks([1, 2, 3, 4, 6, 8, 9])])]
    assert look_like_ids(many)
    assert not look_like_ids([mask_facts([blocks([1, 2, 1])]), mask_facts([blocks([2, 1, 2])])])  # in two pieces
    assert not look_like_ids([mask_facts([blocks([1])]), mask_facts([blocks([1])])])


def test_ids_become_objects_of_a_class() -> None:
    classes = classes_of(blocks([1, 2, 3]), blocks([1, 2, 3, 4]))
    assert classes.params == {"mask_values": {0: "background", 1: "cell"}, "mask_kind": "objects"}
    assert classes.objects
    assert classes.names == ["background", "cell"]


def test_values_of_classes_are_numbered_for_a_person_to_name() -> None:
    classes = classes_of(blocks([10, 20, 10]), blocks([20, 10, 20]))
    assert classes.params == {"mask_values": {0: "background", 10: "class_1", 20: "class_2"}}
    assert not classes.sure
    assert sum(classes.shares) == pytest.approx(1)


def test_the_most_frequent_value_is_the_background_where_none_is_zero() -> None:
    classes = classes_of(np.where(blocks([1]) > 0, 1, 2))
    assert list(classes.params["mask_values"].items()) == [(2, "background"), (1, "cell")]
    assert not classes.sure


def test_strays_around_two_values_go_to_the_nearest() -> None:
    rng = np.random.default_rng(0)
    clean = np.where(blocks([1] * 40) > 0, 255, 0)
    jpeg = np.clip(clean + rng.integers(-9, 10, clean.shape) * (rng.random(clean.shape) < 0.05), 0, 255)
    classes = classes_of(jpeg)
    assert classes.params == {"mask_values": {0: "background", 255: "cell"}, "stray_values": "nearest"}


def test_strays_far_from_both_values_are_background() -> None:
    smoothed = np.where(blocks([1] * 400) > 0, 255, 0)
    smoothed[0, :160] = np.arange(60, 220)
    classes = classes_of(np.vstack([smoothed] * 3))
    assert classes.params["stray_values"] == "background"
    assert not classes.sure


def test_another_spelling_of_a_grey_level_and_a_few_wrong_pixels_are_strays() -> None:
    first, second = blocks([127, 255, 127] * 300), blocks([128, 255, 128] * 100)
    second[0, 0] = 240
    classes = classes_of(first, first, second)
    assert classes.params["mask_values"] == {0: "background", 127: "class_1", 255: "class_2"}
    assert classes.params["stray_values"] == "nearest"


def painted(colours: list[int]) -> np.ndarray:
    """A mask of a square for each colour, above COLOUR."""
    mask_HW = blocks([*range(1, len(colours) + 1)])
    return np.asarray(COLOUR + np.array([0, *colours])[mask_HW])


def test_colours_are_classes_also_where_a_mask_is_black() -> None:
    masks = [painted([0xFF0000, 0x00FF00] * 2), painted([0x00FF00, 0xFF0000] * 2), np.zeros((8, 8), np.uint8)]
    values = classes_of(*masks).params["mask_values"]
    assert values == {"#000000": "background", "#00ff00": "class_1", "#ff0000": "class_2"}


def test_edges_between_colours_are_strays() -> None:
    mask_HW = np.vstack([painted([0xFF0000, 0x0000FF] * 60)] * 4)
    mask_HW[0, :200] = COLOUR + np.arange(200) * 0x010000
    classes = classes_of(mask_HW)
    assert set(classes.params["mask_values"]) == {"#000000", "#ff0000", "#0000ff"}
    assert classes.params["stray_values"] in ("nearest", "background")


def test_a_colour_for_each_object_is_its_id() -> None:
    rng = np.random.default_rng(0)
    masks = [painted(rng.integers(1, 2**24, 9).tolist()) for _ in range(3)]
    assert classes_of(*masks).params == {"mask_values": {0: "background", 1: "cell"}, "mask_kind": "objects"}


def test_names_that_the_source_gives_are_taken() -> None:
    classes = classes_of(blocks([1, 2, 1]), named={0: "background", 1: "rim", 2: "core", 3: "never seen"})
    assert classes.params["mask_values"] == {0: "background", 1: "rim", 2: "core", 3: "never seen"}
    assert classes.sure


@pytest.mark.parametrize(
    ("mask_HW", "expected"),
    [
        (np.zeros((4, 4), np.uint8), "holds the value 0 alone"),
        (np.arange(256).reshape(16, 16) * 7 % 251, "no classes and no ids"),
    ],
)
def test_masks_without_a_meaning_are_refused(mask_HW: np.ndarray, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        classes_of(np.tile(mask_HW, (2, 2)))


def test_things_are_called_by_the_names_of_folders() -> None:
    assert guess_thing(["s3://lab/HeLaNuclei.zip", "masks"]) == "nucleus"
    assert guess_thing(["data"]) == "foreground"


def test_a_sample_is_spread_evenly_with_both_ends(tmp_path: Path) -> None:
    source = FolderSource(make_pairs(tmp_path, 10))
    params = IngestParams(source="x")
    examples = find_examples(source, params)
    assert [example.image_id for example in evenly(examples, 4)] == ["000", "003", "006", "009"]
    assert not look(source, examples, params, 4).complete
    assert look(source, examples, params, 4).of == "4 of 10 images"


def test_a_file_that_cant_be_read_is_a_fault_and_the_others_are_looked_at(tmp_path: Path) -> None:
    source = FolderSource(make_pairs(tmp_path, 3))
    (tmp_path / "images/001.png").write_bytes(b"no image")
    params = IngestParams(source="x")
    seen = look(source, find_examples(source, params), params, 10)
    assert len(seen.images) == 2
    assert "images/001.png" in seen.faults[0]


def test_a_look_says_the_pixel_size_of_the_files(tmp_path: Path) -> None:
    make_pairs(tmp_path, 3)
    (tmp_path / "images/001.json").write_text('{"PixelSize": [90, 90], "PixelSizeUnits": "nm"}')
    source = FolderSource(tmp_path)
    params = IngestParams(source="x")
    seen = look(source, find_examples(source, params), params, 10)
    assert [image.spacing for image in seen.images] == [None, "0.09 um", None]


def test_facts_of_no_object_have_no_width() -> None:
    assert mask_facts([np.zeros((9, 9), np.uint8)]) == MaskFacts({0: 81}, 0.0, ())
