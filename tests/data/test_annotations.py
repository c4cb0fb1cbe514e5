"""Objects of annotations: COCO, labelme, QuPath's GeoJSON and run lengths, drawn as their formats mean them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from segops.data.annotations.coco import CocoFile
from segops.data.annotations.run_lengths import Runs, drawn_runs
from segops.data.annotations.shapes import drawn_shapes
from segops.data.shards import read_examples
from segops.errors import UserError
from segops.stages.ingest import ingest
from tests.support.factories import ingest_params, write_image

SIZE = (20, 30)
RECTANGLE = [3.0, 2.0, 9.0, 2.0, 9.0, 7.0, 3.0, 7.0]  # columns 3 to 8, rows 2 to 6


def box(rows: slice, columns: slice) -> np.ndarray:
    mask_HW = np.zeros(SIZE, bool)
    mask_HW[rows, columns] = True
    return mask_HW


def coco(segmentation: Any, **changed: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 30}],
        "categories": [{"id": 7, "name": "cell"}, {"id": 9, "name": "debris"}],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 7, "segmentation": segmentation}],
        **changed,
    }


def drawn_coco(document: Any) -> np.ndarray:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    (annotation,) = CocoFile(content, "a.json").drawn("a.png", SIZE)
    assert annotation.label == "cell"
    return annotation.mask_HW


def run_lengths_of(mask_HW: np.ndarray) -> dict[str, Any]:
    """COCO's own compressed run lengths."""
    packed = coco_mask.encode(np.asfortranarray(mask_HW.astype(np.uint8)))
    return {"size": list(mask_HW.shape), "counts": packed["counts"].decode()}


def test_a_polygon_of_coco_covers_the_pixels_inside_it() -> None:
    np.testing.assert_array_equal(drawn_coco(coco([RECTANGLE])), box(slice(2, 7), slice(3, 9)))
    both = drawn_coco(coco([RECTANGLE, [x + 12 for x in RECTANGLE]]))
    assert both.sum() == 2 * 30


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_run_lengths_of_coco_come_back_as_its_library_packs_them(seed: int, share: float) -> None:
    mask_HW = np.random.default_rng(seed).random(SIZE) < share
    np.testing.assert_array_equal(drawn_coco(coco(run_lengths_of(mask_HW))), mask_HW)


def test_run_lengths_as_numbers_go_down_the_columns() -> None:
    segmentation = {"size": [20, 30], "counts": [20, 3, 577]}
    np.testing.assert_array_equal(drawn_coco(coco(segmentation)), box(slice(0, 3), slice(1, 2)))


COCO_FAULTS: dict[str, tuple[Any, str]] = {
    "no JSON": (b"{", "a.json: not COCO's format: Invalid JSON"),
    "Latin-1": (b'{"a": "\xe9"}', "a.json: not COCO's format: Invalid JSON"),
    "nested without end": (b"[" * 200_000, "a.json: not COCO's format: Invalid JSON: recursion limit"),
    "a list": ([], "a.json: not COCO's format: Input should be an object"),
    "no categories": (
        {**coco([RECTANGLE]), "categories": None},
        "a.json: not COCO's format: categories: Input should be a valid array",
    ),
    "another size": (
        coco([RECTANGLE], images=[{"id": 1, "file_name": "a.png", "height": 9, "width": 9}]),
        "a.json: a.png is 9x9 pixels there, the file 20x30",
    ),
    "an image twice": (coco([], images=2 * coco([])["images"]), "a.json: an image or its id is listed twice"),
    "another image": (
        coco([], annotations=[{"id": 5, "image_id": 2, "category_id": 7, "segmentation": []}]),
        "annotation 5 is of image 2, which isn't listed",
    ),
    "an unknown category": (
        coco([], annotations=[{"id": 5, "image_id": 1, "category_id": 1, "segmentation": []}]),
        "a.json: annotation 5 of a.png: category 1 isn't listed",
    ),
    "two points": (coco([[1, 2, 3, 4]]), "a polygon needs at least three points of x and y"),
    "an odd number": (coco([[*RECTANGLE, 1]]), "a polygon needs at least three points of x and y"),
    "words": (coco([["a"] * 6]), "annotations.0.segmentation.list[list[float]].0.0: Input should be a valid number"),
    "far away": (coco([[0, 0, 1e12, 0, 0, 5]]), "a coordinate far outside the image"),
    "not a number": (b'{"images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 30}], "categories": '
                     b'[{"id": 7, "name": "cell"}], "annotations": [{"id": 5, "image_id": 1, "category_id": 7, '
                     b'"segmentation": [[NaN, 1, 2, 3, 4, 5]]}]}', "a coordinate far outside the image"),
    "a number": (coco(3), "a.json: not COCO's format: annotations.0.segmentation"),
    "runs too long": (coco({"size": [20, 30], "counts": [20, 900]}), "its run lengths aren't those of 20x30 pixels"),
    "runs below 0": (coco({"size": [20, 30], "counts": [-20, 620]}), "its run lengths aren't those of 20x30 pixels"),
    "runs of another size": (coco({"size": [30, 20], "counts": [600]}), "run lengths of another size"),
    "damaged text": (coco({"size": [20, 30], "counts": "a\x00"}), "damaged run lengths"),
    "text without end": (coco({"size": [20, 30], "counts": "ooooooo"}), "damaged run lengths"),
}  # fmt: skip


@pytest.mark.parametrize("kind", COCO_FAULTS)
def test_a_fault_of_coco_is_a_line(kind: str) -> None:
    document, message = COCO_FAULTS[kind]
    with pytest.raises(UserError) as error:
        drawn_coco(document)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def shape(kind: str, points: Any, label: str = "cell") -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind}


def test_shapes_of_labelme_are_drawn() -> None:
    corners = [[3, 2], [9, 2], [9, 7], [3, 7]]
    document = {
        "imageHeight": 20,
        "imageWidth": 30,
        "shapes": [
            shape("polygon", corners),
            shape("rectangle", [[9, 7], [3, 2]], "other"),
            shape("circle", [[15, 10], [15, 15]]),
        ],
    }
    polygon, rectangle, circle = drawn_shapes(json.dumps(document).encode(), "a.json", SIZE)
    expected = box(slice(2, 7), slice(3, 9))
    np.testing.assert_array_equal(polygon.mask_HW, expected)
    np.testing.assert_array_equal(rectangle.mask_HW, expected)
    assert (polygon.label, rectangle.label) == ("cell", "other")
    y, x = np.ogrid[:20, :30]
    disc = (y + 0.5 - 10) ** 2 + (x + 0.5 - 15) ** 2 < 25
    assert np.count_nonzero(circle.mask_HW != disc) <= 6


def feature(kind: str, coordinates: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def test_features_of_qupath_are_drawn_without_their_holes() -> None:
    outer = [[2, 2], [12, 2], [12, 12], [2, 12], [2, 2]]
    hole = [[4, 4], [6, 4], [6, 6], [4, 6], [4, 4]]
    far = [[20, 2], [25, 2], [25, 5], [20, 5], [20, 2]]
    expected = box(slice(2, 12), slice(2, 12)) & ~box(slice(4, 6), slice(4, 6))
    with_far = expected | box(slice(2, 5), slice(20, 25))
    polygon = feature("Polygon", [outer, hole], classification={"name": "Tumor"})
    several = feature("MultiPolygon", [[outer, hole], [far]])
    for document in (
        {"type": "FeatureCollection", "features": [polygon, several]},
        [polygon, several],
    ):
        first, second = drawn_shapes(json.dumps(document).encode(), "a.geojson", SIZE)
        np.testing.assert_array_equal(first.mask_HW, expected)
        np.testing.assert_array_equal(second.mask_HW, with_far)
        assert (first.label, second.label) == ("Tumor", "")


SHAPE_FAULTS: dict[str, tuple[Any, str]] = {
    "neither": ({"a": 1}, "a.json: not labelme's JSON, nor GeoJSON"),
    "a line": ({"shapes": [shape("line", [[1, 2], [3, 4]])]}, "a.json: shape 1: a line has no area that is known"),
    "no label": (
        {"shapes": [{"points": []}]},
        "a.json: not labelme's JSON, nor GeoJSON: _Labelme.shapes.0.label: Field required",
    ),
    "points that are words": ({"shapes": [shape("polygon", "abc")]}, "shapes.0.points: Input should be a valid array"),
    "another size": (
        {"shapes": [], "imageHeight": 2, "imageWidth": 3},
        "of an image of 2x3 pixels, its image has 20x30",
    ),
    "a point": ([feature("Point", [1, 2])], "a.json: feature 1: a Point has no area"),
    "no rings": ([feature("Polygon", [])], "a polygon without a ring"),
    "no geometry": ([{"type": "Feature"}], "a.json: not labelme's JSON, nor GeoJSON"),
}


@pytest.mark.parametrize("kind", SHAPE_FAULTS)
def test_a_fault_of_shapes_is_a_line(kind: str) -> None:
    document, message = SHAPE_FAULTS[kind]
    with pytest.raises(UserError) as error:
        list(drawn_shapes(json.dumps(document).encode(), "a.json", SIZE))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["shapes", "features", "type", "geometry", "coordinates", "points", "label", "images", "id",
                         "annotations", "categories", "file_name", "height", "segmentation"]), inner, max_size=4),
    max_leaves=12,
).map(lambda document: json.dumps(document).encode()))  # fmt: skip
def test_any_bytes_give_objects_or_a_line(content: bytes) -> None:
    for read in (
        lambda: list(drawn_shapes(content, "a.json", SIZE)),
        lambda: [list(file.drawn(name, SIZE)) for file in [CocoFile(content, "a.json")] for name in file.sizes],
    ):
        try:
            read()
            line = "a.json"
        except UserError as error:
            line = str(error)
        assert line.startswith("a.json")


def runs_of(mask_HW: np.ndarray) -> str:
    """Run lengths as contests write them, by a plain walk down the columns."""
    pairs, inside = [], False
    for position, pixel in enumerate(mask_HW.T.ravel().tolist(), start=1):
        if pixel and not inside:
            pairs.append([position, 0])
        if pixel:
            pairs[-1][1] += 1
        inside = pixel
    return " ".join(f"{start} {length}" for start, length in pairs)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_run_lengths_are_drawn_down_the_columns(seed: int) -> None:
    mask_HW = np.random.default_rng(seed).random(SIZE) < 0.4
    (annotation,) = drawn_runs([Runs(2, "cell", runs_of(mask_HW))], "t.csv", SIZE)
    np.testing.assert_array_equal(annotation.mask_HW, mask_HW)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", "t.csv: row 2: a start without a length"),
        ("1 x", "t.csv: row 2: run lengths that aren't whole numbers"),
        ("0 4", "t.csv: row 2: a run outside the image's 20x30 pixels"),
        ("599 3", "t.csv: row 2: a run outside the image's 20x30 pixels"),
        ("5 0", "t.csv: row 2: a run outside the image's 20x30 pixels"),
    ],
)
def test_a_fault_of_run_lengths_names_its_row(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        list(drawn_runs([Runs(2, "cell", text)], "t.csv", SIZE))
    assert str(error.value).startswith(message)


TOUCHING = [box(slice(2, 8), slice(3, 9)), box(slice(2, 8), slice(9, 15)), box(slice(12, 15), slice(1, 5))]
NUMBERED = sum(number * mask_HW for number, mask_HW in enumerate(TOUCHING, start=1))


def rectangle_of(mask_HW: np.ndarray) -> list[list[int]]:
    rows, columns = np.nonzero(mask_HW)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    return [[int(x), int(y)] for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))]


def source(kind: str, folder: Path) -> dict[str, Any]:
    """Write 12 images, the last of them without objects, with their annotations; return the params of ingest."""
    names = [f"{number:02}" for number in range(12)]
    objects = {name: TOUCHING if name != "11" else [] for name in names}
    for number, name in enumerate(names):
        write_image(folder / "images" / f"{name}.png", np.random.default_rng(number).integers(0, 99, SIZE, np.uint8))
    if kind == "run_lengths":
        rows = [("ImageId", "EncodedPixels")]
        rows += [(name, runs_of(mask_HW)) for name in names for mask_HW in objects[name]] + [("11", "")]
        stream = io.StringIO()
        csv.writer(stream).writerows(rows)
        (folder / "train.csv").write_text(stream.getvalue())
        return {"layout": "run_lengths", "table": "train.csv"}
    if kind == "coco":
        document: dict[str, Any] = {
            "images": [{"id": name, "file_name": f"{name}.png", "height": 20, "width": 30} for name in names],
            "categories": [{"id": 1, "name": "cell"}],
            "annotations": [
                {"id": f"{name}-{n}", "image_id": name, "category_id": 1, "segmentation": run_lengths_of(mask_HW)}
                for name in names
                for n, mask_HW in enumerate(objects[name])
            ],
        }
        (folder / "coco.json").write_text(json.dumps(document))
        return {"layout": "coco", "table": "coco.json"}
    (folder / "truth").mkdir()
    for name in names:
        corners = [rectangle_of(mask_HW) for mask_HW in objects[name]]
        if kind == "labelme":
            document = {"shapes": [shape("polygon", points) for points in corners]}
        else:
            rings = [[*points, points[0]] for points in corners]
            document = {"type": "FeatureCollection", "features": [feature("Polygon", [ring]) for ring in rings]}
        (folder / "truth" / f"{name}.{'json' if kind == 'labelme' else 'geojson'}").write_text(json.dumps(document))
    return {"images": "images/*.png", "masks": f"truth/*.{'json' if kind == 'labelme' else 'geojson'}"}


@pytest.mark.parametrize("kind", ["coco", "labelme", "qupath", "run_lengths"])
def test_annotated_objects_arrive_apart(kind: str, tmp_path: Path) -> None:
    params = ingest_params(
        tmp_path / "raw", **source(kind, tmp_path / "raw"), mask_values={0: "background", 1: "cell"}, group_by="image"
    )
    dataset = ingest(params, dataset=tmp_path / "d")
    assert (dataset.images, dataset.objects, dataset.unused) == (12, 33, [])
    for example in read_examples(tmp_path / "d"):
        expected = NUMBERED if example.image_id != "11" else 0 * NUMBERED
        np.testing.assert_array_equal(example.objects_HW, expected)
        np.testing.assert_array_equal(example.mask_HW, expected > 0)


def test_an_object_of_an_unknown_class_is_refused_or_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    changed = source("labelme", folder)
    (folder / "truth" / "03.json").write_text(
        json.dumps({"shapes": [shape("polygon", rectangle_of(TOUCHING[0]), "artefact")]})
    )
    base = {**changed, "mask_values": {0: "background", 1: "cell"}, "group_by": "image"}
    with pytest.raises(UserError, match=r"^truth/03.json: object 1 of images/03.png: class 'artefact' is not in"):
        ingest(ingest_params(folder, **base), dataset=tmp_path / "d")
    dataset = ingest(ingest_params(folder, **base, stray_values="background"), dataset=tmp_path / "d")
    assert [change.change for change in dataset.changes] == ["object of class 'artefact' left out"]
