"""Proposes layouts of annotations: COCO's JSON, labelme's and QuPath's files, tables of run lengths."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from segops.data.annotations.shapes import SUFFIXES as SHAPES
from segops.data.layouts.annotated import CLASS_COLUMNS, RUN_COLUMNS
from segops.data.layouts.pairing import Members
from segops.files import parse_json
from segops.planning.families import Proposed, families, globs

_COCO_KEYS = (b'"images"', b'"annotations"', b'"categories"')
_RUNS = {column.lower() for column in RUN_COLUMNS}
_IGNORED = {"Ignore*", "__ignore__"}  # as QuPath and labelme call regions of no class
_LABELS_OF = 200  # files of single images whose labels are read, at most


def annotation_proposals(source: Members, files: Sequence[str]) -> Iterator[Proposed]:
    """Yield the layouts by which files of annotations may belong to images, with the classes that they name."""
    documents = [name for name in source.names if name.lower().endswith(SHAPES)]
    for name in documents:
        content = source.read(name)
        if all(key in content for key in _COCO_KEYS):
            if classes := _coco_classes(content):
                params = {"layout": "coco", "table": name, "images": _folder(files), **classes}
                yield Proposed(params, f"{name} is in COCO's format", True)
            documents = [other for other in documents if other != name]
    yield from _run_lengths(source, files)
    for mask in families(documents):
        classes = _classes(label for name in mask.names[:_LABELS_OF] for label in _labels(source.read(name)))
        for image in families(files):
            for proposed in globs(image, mask):
                params = {"layout": "pairs", **proposed.params, **classes}
                yield Proposed(params, f"{proposed.why}, which name objects", True)


def _folder(files: Sequence[str]) -> str:
    """Return the folder that all images are in."""
    common = os.path.commonpath([PurePosixPath(name).parent for name in files])
    return str(common) or "."


def _classes(labels: Iterable[str]) -> dict[str, Any]:
    """Return mask_values of labels in the order of the alphabet, where objects have none of a foreground; and
    ignore_classes where some are ignored."""
    given = {label for label in labels if label and label.lower() != "background"}
    names, ignored = sorted(given - _IGNORED) or ["foreground"], sorted(given & _IGNORED)
    values = {0: "background", **dict(enumerate(names, start=1))}
    return {"mask_values": values, **({"ignore_classes": ignored} if ignored else {})}


def _parsed(content: bytes) -> Any:
    """Return a JSON document; None where it is damaged, which ingest tells."""
    try:
        return parse_json(content)
    except ValueError:
        return None


def _coco_classes(content: bytes) -> dict[str, Any] | None:
    """Return the params of the categories that annotations have; None where the document isn't COCO's."""
    document = _parsed(content)
    try:
        used = {annotation["category_id"] for annotation in document["annotations"]}
        return _classes(category["name"] for category in document["categories"] if category["id"] in used)
    except (TypeError, KeyError, AttributeError):
        return None


def _labels(content: bytes) -> list[str]:
    """Return the labels of labelme's shapes or of GeoJSON's features; nothing of another document."""
    document = _parsed(content)
    if isinstance(document, Mapping) and isinstance(document.get("shapes"), list):
        return [str(shape.get("label", "")) for shape in document["shapes"]]
    features = document.get("features", [document]) if isinstance(document, Mapping) else document
    return [_label(feature) for feature in features or [] if isinstance(feature, Mapping)]


def _label(feature: Mapping[str, Any]) -> str:
    """Return QuPath's classification of a feature, or its label; nothing where it has none."""
    properties = feature.get("properties") or {}
    said = properties.get("classification")
    return str((said.get("name") if isinstance(said, Mapping) else said) or properties.get("label") or "")


def _run_lengths(source: Members, files: Sequence[str]) -> Iterator[Proposed]:
    """Yield the tables that hold run lengths, with the classes of their column."""
    for name in source.names:
        if not name.lower().endswith((".csv", ".tsv")):
            continue
        lines = source.read(name).decode("utf-8-sig", "replace").splitlines()
        columns = _cells(lines[0]) if lines else []
        if not {column.lower() for column in columns} & _RUNS:
            continue
        place = next((columns.index(column) for column in CLASS_COLUMNS if column in columns), None)
        named = [] if place is None else [_cells(line)[place] for line in lines[1:] if line.strip()]
        classes = _classes(named if len(set(named)) > 1 else [])
        params = {"layout": "run_lengths", "table": name, "images": _folder(files), **classes}
        yield Proposed(params, f"{name} holds run lengths", True)
        yield Proposed({**params, "unpaired": "skip"}, f"{name} holds run lengths", False)


def _cells(line: str) -> list[str]:
    """Return the cells of a plain row."""
    return [cell.strip(' "\r') for cell in re.split(r"[,\t]", line)]
