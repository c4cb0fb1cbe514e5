"""Regions for QuPath, napari and CVAT: what each program reads, and back by our own readers where they do."""

from __future__ import annotations

import csv
import io
import json
from xml.etree import ElementTree

from segops.data.annotations.written import Annotated, Shape, cvat_xml, geojson, napari_shapes

SQUARE = Shape("nucleus instead of background", [(-0.5, 1.5), (-0.5, 3.5), (2.5, 3.5), (2.5, 1.5)])


def test_geojson_is_closed_and_begins_at_the_corner_of_the_first_pixel() -> None:
    [feature] = json.loads(geojson([SQUARE]))["features"]
    assert feature["geometry"] == {
        "type": "Polygon",
        "coordinates": [[[2.0, 0.0], [4.0, 0.0], [4.0, 3.0], [2.0, 3.0], [2.0, 0.0]]],
    }
    assert feature["properties"]["classification"]["name"] == SQUARE.name


def test_napari_has_a_row_per_vertex_in_rows_and_columns() -> None:
    rows = list(csv.reader(io.StringIO(napari_shapes([SQUARE, SQUARE]))))
    assert rows[0] == ["index", "shape-type", "vertex-index", "axis-0", "axis-1"]
    assert rows[1] == ["0", "polygon", "0", "-0.5", "1.5"]
    assert [row[0] for row in rows[1:]] == ["0"] * 4 + ["1"] * 4


def test_cvat_names_files_and_escapes_labels() -> None:
    shape = SQUARE._replace(name='a "b" & <c>')
    text = cvat_xml({"i0": Annotated("images/i 0.tif", 40, 30, [shape])})
    root = ElementTree.fromstring(text)
    image = root.find("image")
    assert image is not None
    assert image.attrib == {"id": "0", "name": "images/i 0.tif", "width": "30", "height": "40"}
    polygon = image.find("polygon")
    assert polygon is not None
    assert polygon.attrib["label"] == 'a "b" & <c>'
    assert polygon.attrib["points"] == "2.00,0.00;4.00,0.00;4.00,3.00;2.00,3.00"
