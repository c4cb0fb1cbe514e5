"""Holds the layouts by folders: the Data Science Bowl's, and pairs of images and masks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from segops.data.annotations.shapes import SUFFIXES as SHAPES
from segops.data.decoders.kinds import image_stem
from segops.data.images import IMAGE_SUFFIXES
from segops.data.layouts.names import composed
from segops.data.layouts.pairing import MaskRule, Members, Pair, check_paired, describe_names, is_image
from segops.data.layouts.patterns import is_glob, literal, match
from segops.data.layouts.slice_folders import check_numbers, gathered
from segops.errors import UserError
from segops.params.ingest import IngestParams
from segops.params.layout import CHANNEL
from segops.params.masks import CLASS


def dsb2018(source: Members, params: IngestParams) -> list[Pair]:
    """Pair `<id>/images/<id>.png` with `<id>/masks/*.png`, one mask per nucleus, at any depth."""
    if len(params.classes) != 2:
        raise UserError(f"ingest.mask_values: layout dsb2018 has two classes, not {len(params.classes)}")
    folders: dict[str, dict[str, list[str]]] = {}
    for name in source.names:
        parts = name.rsplit("/", 3)
        if len(parts) >= 3 and parts[-2] in ("images", "masks") and is_image(name):
            key = name.rsplit("/", 2)[0]
            folders.setdefault(key, {"images": [], "masks": []})[parts[-2]].append(name)
    if not folders:
        raise UserError(f"layout dsb2018 finds no <id>/images/*.png; {describe_names(source.names, params)}")
    for key, members in folders.items():
        if len(members["images"]) > 1:
            raise UserError(f"{key}/images: {len(members['images'])} images; layout dsb2018 has one image per id")
    check_paired(
        [members["images"][0] for members in folders.values() if not members["masks"]],
        [members["masks"][0] for members in folders.values() if not members["images"]],
        params,
    )
    return [
        Pair(key.rpartition("/")[2], members["images"][0], tuple(sorted(members["masks"])), "nonzero")
        for key, members in folders.items()
        if members["images"] and members["masks"]
    ]


def pairs(source: Members, params: IngestParams) -> list[Pair]:
    """Pair the members of two folders or glob patterns by what the wildcards match, or else by the stem.

    With `ingest.stack` an image is one file per channel. With `ingest.slices: folder` a file stands for the slices that
    are beside it in its folder, whose name is the stem. `masks/<stem>.png` is a mask with all classes,
    `masks/<stem>/*.png` a mask for each object. A single leading folder of an archive may be left out of the patterns.
    Images of the same subfolder share a group.
    """
    keys = _Keys(source.names, params)
    by_class = keys.of_masks()
    masks = {name: key for of_class in by_class for name, key in of_class.items()}
    images, *others = (
        {name: key for name, key in channel.items() if name not in masks} for channel in keys.of_channels()
    )
    if not images and not masks:
        what = f"no image matches ingest.images '{params.images}' and no mask matches ingest.masks '{params.masks}'"
        raise UserError(f"{what}; {describe_names(source.names, params)}")
    stacked = _stacked(images, others, params.stack)
    if not others and (is_glob(params.images) or is_glob(params.masks)):
        by_stem = _stems(images), _stems(masks)
        if _unpaired(images, masks) != ([], []) and _unpaired(*by_stem) == ([], []):
            images, masks = by_stem
    check_paired(*_unpaired(images, masks), params)
    joined = _join_classes(images, by_class) if params.mask_kind == "one_file_per_class" else _join(images, masks)
    return [_whole(replace(pair, stacked=stacked[pair.image]), keys.slices) for pair in joined]


def _whole(pair: Pair, slices: Mapping[str, tuple[str, ...]]) -> Pair:
    """Return a pair with the other slices of its images and masks."""
    firsts = (pair.image, *pair.stacked, *pair.masks)
    whole = replace(pair, slices={name: slices[name] for name in firsts if name in slices})
    check_numbers([(name, *whole.slices[name]) for name in firsts if name in whole.slices])
    return whole


class _Keys:
    """The keys of a source's files by their names; of a folder of slices its first file stands for it.

    Attributes:
        slices: the other files of such folders, by the first.
    """

    def __init__(self, names: Sequence[str], params: IngestParams) -> None:
        self._names, self._params = names, params
        self.slices: dict[str, tuple[str, ...]] = {}

    def of_masks(self) -> list[dict[str, str]]:
        """Return the masks for each foreground class, or once where a mask has all classes."""
        masks = self._params.masks
        if self._params.mask_kind != "one_file_per_class":
            return [self._matching(masks)]
        return [self._matching(masks.replace(CLASS, literal(name))) for name in self._params.classes[1:]]

    def of_channels(self) -> list[dict[str, str]]:
        """Return the files of images for each channel."""
        images, stack = self._params.images, self._params.stack
        if not stack:
            return [self._matching(images)]
        if CHANNEL in images:
            return [self._matching(images.replace(CHANNEL, literal(text))) for text in stack]
        every = self._matching(images)
        for name, key in every.items():
            if not key.endswith(tuple(stack)):
                raise UserError(
                    f"{name}: its stem ends in none of ingest.stack ({', '.join(stack)}); rename it or leave it out"
                )
        # Where a channel's text is the end of another's, the longer counts.
        ending = {name: max((text for text in stack if key.endswith(text)), key=len) for name, key in every.items()}
        return [{name: key.removesuffix(text) for name, key in every.items() if ending[name] == text} for text in stack]

    def _matching(self, pattern: str) -> dict[str, str]:
        files = keyed(self._names, pattern)
        if self._params.slices == "file":
            return files
        firsts, others = gathered(files)
        self.slices.update(others)
        return firsts


def _join_classes(images: dict[str, str], by_class: list[dict[str, str]]) -> list[Pair]:
    """Pair images with the masks of each class; a class without a mask isn't in the image."""
    image_of = _by_key(images)
    joined = []
    for key, image in image_of.items():
        masks = [
            (index, name)
            for index, of_class in enumerate(by_class, start=1)
            for name, mask_key in of_class.items()
            if mask_key == key
        ]
        if masks:
            indices, names = zip(*masks, strict=True)
            group = key.rpartition("/")[0] or None
            joined.append(Pair(key, image, names, "classes", group=group, mask_classes=indices))
    return joined


def _stacked(
    images: dict[str, str], others: Sequence[dict[str, str]], stack: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return the files of the further channels by the file of the first. Raises UserError where a file is missing."""
    by_key = [{key: name for name, key in channel.items()} for channel in (images, *others)]
    for text, channel in zip(stack, by_key, strict=False):
        for other in by_key:
            for key, name in other.items():
                if key not in channel:
                    raise UserError(f"{name}: no file of channel '{text}' beside it; add it or correct ingest.stack")
    return {name: tuple(channel[key] for channel in by_key[1:]) for name, key in images.items()}


def keyed(names: Sequence[str], pattern: str) -> dict[str, str]:
    """Return the key of each member that matches, as written or below the single folder that everything is in.

    Members are images, or files of annotations where the pattern ends as they do.
    """
    suffixes = SHAPES if PurePosixPath(pattern).suffix.lower() in SHAPES else tuple(IMAGE_SUFFIXES)
    roots = {name.partition("/")[0] for name in names}
    root = f"{roots.pop()}/" if len(roots) == 1 else ""
    for prefix in ("", root):
        keys = {}
        for name in names:
            matched = match(pattern, name.removeprefix(prefix))
            if matched and name.lower().endswith(suffixes):
                keys[name] = _key(matched.groups(), name)
        if keys:
            return keys
    return {}


def _key(wildcards: Iterable[str], name: str) -> str:
    """Join what the wildcards match to a key, else take the stem."""
    key = "/".join(part for part in (text.strip("/") for text in wildcards) if part) or composed(
        PurePosixPath(image_stem(name)).name
    )
    return image_stem(key) if is_image(key) else key


def _stems(keys: dict[str, str]) -> dict[str, str]:
    """Return the members by name with their stems as keys."""
    return {name: composed(PurePosixPath(image_stem(name)).name) for name in keys}


def _owner(key: str, images: Collection[str]) -> str | None:
    """Return the image key that a mask's key belongs to: its own, or its folder's."""
    folder = key.rpartition("/")[0]
    return next((owner for owner in (key, folder) if owner in images), None)


def _unpaired(images: dict[str, str], masks: dict[str, str]) -> tuple[list[str], list[str]]:
    """Return the images without a mask and the masks without an image."""
    keys = set(images.values())
    owners = {name: _owner(key, keys) for name, key in masks.items()}
    owned = set(owners.values())
    return (
        [name for name, key in images.items() if key not in owned],
        [name for name, owner in owners.items() if owner is None],
    )


def _join(images: dict[str, str], masks: dict[str, str]) -> list[Pair]:
    """Pair images with masks by key. Raises UserError for two images of a key, or a mask beside a folder of masks."""
    image_of = _by_key(images)
    masks_of: dict[str, list[str]] = {}
    for name, key in masks.items():
        masks_of.setdefault(_owner(key, image_of) or "", []).append(name)
    joined = []
    for key, image in image_of.items():
        if key not in masks_of:
            continue
        direct = [name for name in masks_of[key] if masks[name] == key]
        if direct and len(masks_of[key]) > 1:
            first, second = masks_of[key][:2]
            raise UserError(f"{first} and {second} are both masks of {image}; keep one, or put all in a folder")
        rule: MaskRule = ("shapes" if direct[0].lower().endswith(SHAPES) else "values") if direct else "objects"
        joined.append(Pair(key, image, tuple(sorted(masks_of[key])), rule, group=key.rpartition("/")[0] or None))
    return joined


def _by_key(images: dict[str, str]) -> dict[str, str]:
    """Return the image of each key. Raises UserError for two."""
    image_of: dict[str, str] = {}
    for name, key in images.items():
        if key in image_of:
            raise UserError(f"{image_of[key]!r} and {name!r} are images of one stem; rename one of them")
        image_of[key] = name
    return image_of
