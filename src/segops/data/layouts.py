"""How the members of a source pair up: which image has which masks, and which images belong together.

A new layout is a function from member names to pairs and a line in LAYOUTS.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from segops.data.images import IMAGE_SUFFIXES
from segops.data.patterns import compile_pattern, is_glob
from segops.errors import UserError
from segops.params import IngestParams

_SHOWN = 5

MaskRule = Literal["values", "objects", "nonzero"]


@dataclass(frozen=True)
class Example:
    """An image and its masks, by member name.

    mask_rule: `values`: one mask whose values name classes; `objects`: such a mask for each object; `nonzero`: a mask
    for each object, anything above 0 is class 1.
    """

    image_id: str
    group_id: str
    image: str
    masks: tuple[str, ...]
    mask_rule: MaskRule

    @property
    def mask_source(self) -> str:
        """The mask's member, or the folder of the masks."""
        return self.masks[0] if self.mask_rule == "values" else f"{PurePosixPath(self.masks[0]).parent}/"


@dataclass(frozen=True)
class Pair:
    """What a layout finds: `key` is the image's place in the layout, `folder/stem`."""

    key: str
    image: str
    masks: tuple[str, ...]
    mask_rule: MaskRule


Layout = Callable[[Sequence[str], IngestParams], list[Pair]]


def find_examples(names: Sequence[str], params: IngestParams) -> list[Example]:
    """Pair the members of a source as `ingest.layout` says.

    Images in subfolders share a group under `group_by: layout`; `fields` leaves groups to be found from the pixels.

    Returns: examples sorted by image id.
    Raises: UserError: nothing found, an image without mask or a mask without image, two images of one id, an id that
        `group_pattern` doesn't match.
    """
    if not names:
        raise UserError(f"ingest.source: {params.source} holds no files; point it at a folder or archive of images")
    pairs = LAYOUTS[params.layout](names, params)
    found: dict[str, Example] = {}
    for pair in sorted(pairs, key=lambda pair: pair.key):
        example = _example(pair, params)
        if example.image_id in found:
            first = found[example.image_id].image
            raise UserError(f"{first} and {pair.image} would both get the id '{example.image_id}'; rename one of them")
        found[example.image_id] = example
    return [found[image_id] for image_id in sorted(found)]


def _example(pair: Pair, params: IngestParams) -> Example:
    image_id = _identifier(pair.key)
    group_id = image_id
    if params.group_by == "layout" and params.layout == "pairs" and "/" in pair.key:
        group_id = _identifier(pair.key.rpartition("/")[0])
    elif params.group_by == "pattern":
        assert params.group_pattern is not None, "params refuse group_by pattern without one"
        group_id = _match_group(params.group_pattern, image_id)
    return Example(image_id, group_id, pair.image, pair.masks, pair.mask_rule)


def _identifier(key: str) -> str:
    """An id without dots and slashes: anything but letters, digits, '_' and '-' becomes '_'."""
    return re.sub(r"[^\w-]", "_", unicodedata.normalize("NFC", key))


def _match_group(pattern: str, image_id: str) -> str:
    try:
        match = re.search(pattern, image_id)
        group = match.group(1) if match else None
    except re.error as error:
        raise UserError(f"ingest.group_pattern: '{pattern}' is not a regular expression ({error})") from None
    except IndexError:
        raise UserError(f"ingest.group_pattern: '{pattern}' has no group; put (..) around the group's name") from None
    if not group:
        raise UserError(f"ingest.group_pattern: '{pattern}' finds no group in the image id '{image_id}'; correct it")
    return group


def dsb2018(names: Sequence[str], params: IngestParams) -> list[Pair]:
    """`<id>/images/<id>.png` and `<id>/masks/*.png`, a mask a nucleus, at any depth."""
    if len(params.classes) != 2:
        raise UserError(f"ingest.mask_values: layout dsb2018 has two classes, not {len(params.classes)}")
    folders: dict[str, dict[str, list[str]]] = {}
    for name in names:
        parts = name.rsplit("/", 3)
        if len(parts) >= 3 and parts[-2] in ("images", "masks") and _is_image(name):
            key = name.rsplit("/", 2)[0]
            folders.setdefault(key, {"images": [], "masks": []})[parts[-2]].append(name)
    if not folders:
        raise UserError(f"layout dsb2018 finds no <id>/images/*.png; {_shown(names, params)}")
    for key, found in folders.items():
        if len(found["images"]) > 1:
            raise UserError(f"{key}/images: {len(found['images'])} images; layout dsb2018 has one an id")
    _check_paired(
        [found["images"][0] for found in folders.values() if not found["masks"]],
        [found["masks"][0] for found in folders.values() if not found["images"]],
    )
    return [
        Pair(key.rpartition("/")[2], found["images"][0], tuple(sorted(found["masks"])), "nonzero")
        for key, found in folders.items()
    ]


def pairs(names: Sequence[str], params: IngestParams) -> list[Pair]:
    """Two folders or glob patterns; an image and its mask share what the wildcards stand for, or else the stem.

    `masks/<stem>.png` is one mask with all classes, `masks/<stem>/*.png` a mask for each object. A single leading
    folder of an archive may be left out of the patterns.
    """
    images, masks = _keyed(names, params.images), _keyed(names, params.masks)
    images = {name: key for name, key in images.items() if name not in masks}
    if not images and not masks:
        what = f"no image matches ingest.images '{params.images}' and no mask matches ingest.masks '{params.masks}'"
        raise UserError(f"{what}; {_shown(names, params)}")
    if is_glob(params.images) or is_glob(params.masks):
        by_stem = _stems(images), _stems(masks)
        if _unpaired(images, masks) != ([], []) and _unpaired(*by_stem) == ([], []):
            images, masks = by_stem
    _check_paired(*_unpaired(images, masks))
    return _join(images, masks)


LAYOUTS: dict[str, Layout] = {"dsb2018": dsb2018, "pairs": pairs}


def _keyed(names: Sequence[str], pattern: str) -> dict[str, str]:
    """Key of each member that matches, as written or below the one folder that everything stands in."""
    roots = {name.partition("/")[0] for name in names}
    root = f"{roots.pop()}/" if len(roots) == 1 else ""
    for prefix in ("", root):
        found = {}
        for name in names:
            match = compile_pattern(pattern).fullmatch(name.removeprefix(prefix))
            if match and _is_image(name):
                found[name] = _key(match.groups(), name)
        if found:
            return found
    return {}


def _key(wildcards: Iterable[str], name: str) -> str:
    key = "/".join(part for part in (text.strip("/") for text in wildcards) if part) or PurePosixPath(name).stem
    return str(PurePosixPath(key).with_suffix("")) if _is_image(key) else key


def _stems(keys: dict[str, str]) -> dict[str, str]:
    return {name: PurePosixPath(name).stem for name in keys}


def _owner(key: str, images: Collection[str]) -> str | None:
    """The image key that a mask's key belongs to: its own, or its folder's."""
    folder = key.rpartition("/")[0]
    return next((owner for owner in (key, folder) if owner in images), None)


def _unpaired(images: dict[str, str], masks: dict[str, str]) -> tuple[list[str], list[str]]:
    keys = set(images.values())
    owners = {name: _owner(key, keys) for name, key in masks.items()}
    owned = set(owners.values())
    return (
        [name for name, key in images.items() if key not in owned],
        [name for name, owner in owners.items() if owner is None],
    )


def _join(images: dict[str, str], masks: dict[str, str]) -> list[Pair]:
    image_of: dict[str, str] = {}
    for name, key in images.items():
        if key in image_of:
            raise UserError(f"{image_of[key]} and {name} are images of one stem; rename one of them")
        image_of[key] = name
    masks_of: dict[str, list[str]] = {}
    for name, key in masks.items():
        masks_of.setdefault(_owner(key, image_of) or "", []).append(name)
    joined = []
    for key, image in image_of.items():
        direct = [name for name in masks_of[key] if masks[name] == key]
        if direct and len(masks_of[key]) > 1:
            first, second = masks_of[key][:2]
            raise UserError(f"{first} and {second} are both masks of {image}; keep one, or put all in a folder")
        joined.append(Pair(key, image, tuple(sorted(masks_of[key])), "values" if direct else "objects"))
    return joined


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _check_paired(images: Iterable[str], masks: Iterable[str]) -> None:
    images, masks = sorted(images), sorted(masks)
    complaints = []
    if images:
        complaints.append(f"{_count(images, 'image')} without mask: {_first(images)}")
    if masks:
        complaints.append(f"{_count(masks, 'mask')} without image: {_first(masks)}")
    if complaints:
        raise UserError(f"{'; '.join(complaints)}; add the missing files or correct ingest.images and ingest.masks")


def _count(items: Sequence[str], what: str) -> str:
    return f"{len(items)} {what}{'s' if len(items) > 1 else ''}"


def _first(items: Sequence[str]) -> str:
    return ", ".join(items[:_SHOWN]) + (", .." if len(items) > _SHOWN else "")


def _shown(names: Sequence[str], params: IngestParams) -> str:
    return f"{params.source} holds {_count(names, 'file')}: {_first(names)}"
