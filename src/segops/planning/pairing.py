"""Finds how the files of a source pair up: proposals from the names, each tried with the layout's own function."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

from pydantic import ValidationError

from segops.data.layouts.layout import LAYOUTS, find_examples
from segops.data.layouts.pairing import Members, Pair, is_image
from segops.errors import UserError
from segops.files import parse_json
from segops.params.file_rules import Dimensions
from segops.params.ingest import IngestParams
from segops.planning.annotated import annotation_proposals
from segops.planning.families import folder_proposals, mask_candidates
from segops.planning.per_class import per_class_proposals
from segops.planning.volumes import volume_proposals
from segops.planning.words import role
from segops.progress import counted

_NNUNET_IMAGE = re.compile(r"(?:.*/)?imagesTr/.+(_\d{4})(?:\.nii\.gz|\.[^/.]+)")
_BIDS_IMAGE = re.compile(r"(?:[^/]+/)?sub-[^/]+/(?:ses-[^/]+/)?micr/[^/]+")
_BIDS_MASK = re.compile(
    r"(?:[^/]+/)?derivatives/[^/]+/sub-[^/]+/(?:ses-[^/]+/)?micr/[^/]+?_((?:seg|label|mask)[^/]*)\.\w+"
)
_TABLE = (".csv", ".tsv")
_ENOUGH = 2  # pairs
_GIVEN = "as you said"


@dataclass(frozen=True)
class Pairing:
    """How a source's files pair up.

    Attributes:
        params: of `ingest`, as they differ from the defaults: layout, images, masks, table, stack.
        pairs: what the layout makes of them.
        why: the reason, a phrase.
        sure: whether nothing else would do.
        unused: image files that are neither image nor mask.
        class_names: class by mask value, where a file of the source names them.
    """

    params: dict[str, Any]
    pairs: list[Pair]
    why: str
    sure: bool = True
    unused: list[str] = field(default_factory=list)
    class_names: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Proposal:
    """Params of a layout that may pair a source's files, and why."""

    params: dict[str, Any]
    why: str
    sure: bool = True

    def of(self, dimensions: Dimensions) -> Proposal:
        """Return the proposal for volumes, which params say, or for pictures."""
        return self if dimensions == 2 else replace(self, params={**self.params, "dimensions": 3})


def find_pairing(source: Members, uri: str, table: str | None = None) -> Pairing:
    """Return the first proposal that pairs all image files of a source, else the proposal that pairs most.

    Where none pairs all of its own images and masks, those without a partner are left out (`ingest.unpaired: skip`).

    Args:
        table: the table that must be taken, if any.

    Raises: UserError: no proposal pairs two images; the text is the complaint of the most promising one.
    """
    files = [name for name in source.names if is_image(name)]
    volumes = volume_proposals(source, files)
    if not files and not volumes.proposals:
        kinds = sorted({PurePosixPath(name).suffix for name in source.names} - {""})
        held = f"{counted(len(source.names), 'file')}{': ' if kinds else ''}{', '.join(kinds[:8])}"
        raise UserError(f"{uri}: holds no image that can be read ({held})")
    complaints: list[str] = []

    def proposals() -> Iterable[Proposal]:
        usual = _proposals(source, files)
        if table is not None:
            return [Proposal({"layout": "csv", "table": table}, _GIVEN).of(volumes.dimensions)]
        return chain((Proposal(*each) for each in volumes.proposals), (each.of(volumes.dimensions) for each in usual))

    best = _best(source, uri, proposals(), files, complaints)
    if best is None:
        skipping = (replace(proposal, params={**proposal.params, "unpaired": "skip"}) for proposal in proposals())
        best = _best(source, uri, skipping, files, [])
    if best is None:
        complaint = complaints[0] if complaints else f"of {len(files)} image files no folder or name says mask"
        raise UserError(f"{uri}: no layout pairs images with masks: {complaint}; --wizard asks for folders or globs")
    return replace(_doubted(best), class_names=_class_names(source))


def _best(
    source: Members, uri: str, proposals: Iterable[Proposal], files: Sequence[str], complaints: list[str]
) -> Pairing | None:
    """Return what pairs most files, of equal ones the first; None where nothing pairs, with complaints in the list."""
    best: Pairing | None = None
    for proposal in proposals:
        pairing = _tried(source, uri, proposal, files, complaints)
        if pairing and (best is None or len(pairing.unused) < len(best.unused)):
            best = pairing
        if best and not best.unused:
            break
    return best


def pairing_advice(source: Members, params: IngestParams) -> str | None:
    """Say which params of ingest would pair a source's files; None where none pair most of them, or these do."""
    try:
        pairing = find_pairing(source, params.source)
    except UserError:
        return None
    files = [name for name in source.names if is_image(name)]
    given = params.model_dump()
    if 2 * len(pairing.unused) > len(files) or all(given[name] == value for name, value in pairing.params.items()):
        return None
    written = ", ".join(f"{name}: {json.dumps(value)}" for name, value in pairing.params.items())
    return f"{written} in ingest would pair {counted(len(pairing.pairs), 'image')}"


def given_pairing(source: Members, uri: str, images: str, masks: str) -> Pairing:
    """Return the pairing by globs that a person gave. Raises UserError where they don't pair."""
    params: dict[str, Any] = {"layout": "pairs", "images": images, "masks": masks}
    if volume_proposals(source, [name for name in source.names if is_image(name)]).dimensions == 3:
        params["dimensions"] = 3
    pairs = LAYOUTS["pairs"](source, IngestParams.model_validate({"source": uri, **params}))
    return Pairing(params, pairs, _GIVEN, unused=_unused(pairs, source.names))


def _doubted(pairing: Pairing) -> Pairing:
    """Return a pairing that isn't sure where files are left out, or where other files look like masks too."""
    doubts = [pairing.why]
    if "unpaired" in pairing.params:
        doubts.append("files without a partner are left out")
    others = sorted({str(PurePosixPath(name).parent) for name in pairing.unused if role(name) == "mask"})
    if others and pairing.params["layout"] != "bids" and "unpaired" not in pairing.params:
        doubts.append(f"files in {', '.join(others[:3])} look like masks too")
    return replace(pairing, sure=pairing.sure and len(doubts) == 1, why="; ".join(doubts))


def _tried(
    source: Members, uri: str, proposal: Proposal, files: Sequence[str], complaints: list[str]
) -> Pairing | None:
    """Return what a proposal pairs; None where it pairs nothing, with its complaint in the list."""
    try:
        params = IngestParams.model_validate({"source": uri, **proposal.params})
        pairs = [example.pair for example in find_examples(source, params)]
    except (UserError, ValidationError) as error:
        complaints.append(f"{error} ({proposal.why})")
        return None
    if len(pairs) < _ENOUGH:
        return None
    return Pairing(proposal.params, pairs, proposal.why, proposal.sure, _unused(pairs, files))


def _unused(pairs: Sequence[Pair], files: Sequence[str]) -> list[str]:
    """Return the image files that no pair uses."""
    used = {name for pair in pairs for name in pair.members}
    return [name for name in files if is_image(name) and name not in used]


def _proposals(source: Members, files: Sequence[str]) -> Iterator[Proposal]:
    """Yield proposals, those first that a source says by itself."""
    yield from _tables(source)
    yield from _nnunet(files)
    yield from _bids(files)
    yield from _by_object(files)
    for params, why, sure in chain(per_class_proposals(files, source.read), folder_proposals(files)):
        yield Proposal({"layout": "pairs", **params}, why, sure)
    for params, why, sure in annotation_proposals(source, files):
        yield Proposal(params, why, sure)
    for params, why in mask_candidates(files, source.read):
        yield Proposal({"layout": "pairs", **params}, why, sure=False)


def _by_object(files: Sequence[str]) -> Iterator[Proposal]:
    """Yield the Data Science Bowl's layout, `<id>/images/<id>.png` beside `<id>/masks/*.png`, several of each id."""
    masks = Counter(name.rsplit("/", 2)[0] for name in files if re.fullmatch(r".+/masks/[^/]+", name))
    images = {name.rsplit("/", 2)[0] for name in files if re.fullmatch(r".+/images/[^/]+", name)}
    if len(images) > 1 and max(masks.values(), default=0) > 1 and set(masks) == images:
        yield Proposal({"layout": "dsb2018"}, "folders <id>/images and <id>/masks, a mask an object")


def _tables(source: Members) -> Iterator[Proposal]:
    """Yield the tables that name images and masks."""
    for name in source.names:
        if not name.lower().endswith(_TABLE) or name.count("/") > 1:
            continue
        first = source.read(name).decode("utf-8-sig", "replace").partition("\n")[0]
        columns = {cell.strip(' "\r') for cell in re.split(r"[,\t]", first)}
        if {"image", "mask"} <= columns:
            yield Proposal({"layout": "csv", "table": name}, f"{name} has the columns image and mask")


def _nnunet(files: Sequence[str]) -> Iterator[Proposal]:
    """Yield nnU-Net's raw layout: `imagesTr/<case>_0000.png` beside `labelsTr/<case>.png`."""
    matches = [match for match in map(_NNUNET_IMAGE.fullmatch, files) if match]
    if matches:
        root = matches[0].string.rpartition("imagesTr/")[0]
        stack = sorted({match[1] for match in matches})
        params = {"images": f"{root}imagesTr", "masks": f"{root}labelsTr", "stack": stack}
        channels = f"{len(stack)} channel{'s in files of their own' if len(stack) > 1 else ''}"
        yield Proposal({"layout": "pairs", **params}, f"nnU-Net's folders, {channels}")


def _bids(files: Sequence[str]) -> Iterator[Proposal]:
    """Yield the derivatives of a BIDS dataset, those first that most images have, then of the longest name."""
    if not any(_BIDS_IMAGE.fullmatch(name) for name in files):
        return
    counts: dict[str, int] = defaultdict(int)
    for name in files:
        if match := _BIDS_MASK.fullmatch(name):
            counts[match[1]] += 1
    kinds = sorted(counts, key=lambda kind: (-counts[kind], -len(kind), kind))
    for kind in kinds:
        others = ", ".join(other for other in kinds if other != kind)
        why = "BIDS; " + (f"other derivatives: {others}" if others else "the only derivative")
        yield Proposal({"layout": "bids", "masks": kind}, why, sure=not others)


def _class_names(source: Members) -> dict[int, str]:
    """Return the classes that nnU-Net's dataset.json names, by mask value; empty where there is none."""
    name = next((name for name in source.names if PurePosixPath(name).name == "dataset.json"), None)
    if name is None:
        return {}
    try:
        labels = parse_json(source.read(name))["labels"]
        pairs = [(key, name) if str(key).isdigit() else (name, key) for key, name in labels.items()]
        return dict(sorted((int(value), str(name)) for value, name in pairs))
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
