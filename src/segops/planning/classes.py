"""Decides from a mask's values whether they are classes, ids of objects or colours, and which is the background."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from segops.data.masks import MaskValues
from segops.data.read_changes import ChangeLog
from segops.errors import UserError
from segops.planning.pixels import COLOUR, Look, MaskFacts
from segops.planning.words import words
from segops.progress import counted

_MOST_CLASSES = 12  # that differ in value; more are ids or strays
_ONE_PIECE = 0.9  # share of the pixels whose values are one piece each, at least, where values are ids
_STRAY_SHARE = 0.02  # of the pixels, at most, that hold other values than the frequent ones
_BLACK = {0, COLOUR}
_NEAR = 16  # grey levels of a stray value from a frequent one, at most
_GREY_LEVEL = 32  # smaller values are counted, not shades
_RARE = 1e-4  # share of the pixels, below which a value in few masks is a stray
_FREQUENT = 0.002  # share of the pixels, at least, that a class holds where there are strays
_THINGS = {
    "nucle": "nucleus", "cell": "cell", "vessel": "vessel", "lesion": "lesion", "polyp": "polyp", "axon": "axon",
    "gland": "gland", "tumo": "tumour", "lung": "lung", "neuron": "neuron", "mito": "mitochondrion", "crypt": "crypt",
    "yeast": "yeast", "bacteri": "bacterium", "embryo": "embryo", "tooth": "tooth", "teeth": "tooth",
    "kidney": "kidney", "liver": "liver", "organoid": "organoid", "fibre": "fibre", "fiber": "fibre",
}  # fmt: skip


@dataclass(frozen=True)
class Classes:
    """What the values of masks mean.

    Attributes:
        params: of `ingest`: mask_values, and where they differ from the defaults stray_values and mask_kind.
        why: the reason, a phrase.
        objects: whether single objects are known: ids, or a mask for each.
        shares: share of the pixels by class, background first.
    """

    params: dict[str, Any]
    why: str
    sure: bool
    objects: bool
    shares: tuple[float, ...]

    @property
    def names(self) -> list[str]:
        """Class names, background first."""
        return list(dict.fromkeys(self.params["mask_values"].values()))


def read_classes(look: Look, rule: str, spoken: Sequence[str], named: Mapping[int, str]) -> Classes:
    """Decide what the values of the masks that were looked at mean.

    Args:
        rule: the layout's `mask_rule`, `values`, `objects` or `nonzero`.
        spoken: names of the source and its folders, in which the thing may be called by its name.
        named: class by value, where the source says it.

    Raises: UserError: masks of one value, or of values that no rule knows.
    """
    masks = _alike(look.masks)
    pixels = _counted(masks)
    thing = guess_thing(spoken)
    if rule == "nonzero":
        inside = sum(number for value, number in pixels.items() if value) / sum(pixels.values())
        values: dict[int, str] = {0: "background", 255: thing}
        why = "a mask an object: anything above 0; name it"
        return Classes({"mask_values": values}, why, True, True, (1 - inside, inside))
    if len(pixels) < 2:
        raise UserError(f"every mask that was looked at holds the value {min(pixels)} alone; are these the masks?")
    if named and set(pixels) <= set(named):
        return _listed(pixels, dict(named), "the source's dataset.json names the classes", sure=True)
    if look_like_ids(masks):
        return _objects(pixels, thing)
    frequent = _frequent(masks)
    if not 2 <= len(frequent) <= _MOST_CLASSES:
        raise UserError(
            f"masks hold {len(pixels)} values ({_first(pixels)}), no classes and no ids of objects; list their meaning "
            "in ingest.mask_values"
        )
    classes = _listed(pixels, _class_names(frequent, pixels, thing), "", sure=False, objects=rule == "objects")
    strays = sorted(set(pixels) - set(frequent))
    why = f"masks hold {_first(frequent)}"
    why += f" and {counted(len(strays), 'stray value')} in few pixels" if strays else ""
    why += "; name it" if len(frequent) == 2 else "; name them"
    params = {**classes.params, **({"stray_values": _stray_rule(strays, frequent)} if strays else {})}
    sure = len(frequent) == 2 and not strays and bool(_BLACK & set(frequent))
    return Classes(params, why, sure, classes.objects, classes.shares)


def described_classes(look: Look, params: Mapping[str, Any], objects: bool) -> Classes:
    """Return the classes that annotations or names of files say, by their params of `ingest`.

    Args:
        objects: whether single objects are annotated.
    """
    names = list(dict.fromkeys(params["mask_values"].values()))
    pixels = _counted(look.masks)
    total = sum(pixels.values())
    shares = tuple(pixels.get(index, 0) / total for index in range(len(names)))
    kept = {name: params[name] for name in ("mask_kind", "mask_values") if name in params}
    return Classes(kept, f"the source names {', '.join(names[1:4])}", True, objects, shares)


def _stray_rule(strays: Sequence[int], listed: Sequence[int]) -> str:
    """Return `nearest` where ingest takes the nearest listed value for all strays, else `background`."""
    coloured = max(listed) >= COLOUR
    plain = {value - COLOUR if coloured else value: str(value) for value in listed}
    values_HW = np.array([[value - COLOUR if coloured else value for value in strays]])
    try:
        MaskValues(plain, "nearest", by_colour=coloured).apply(values_HW, "a mask", ChangeLog())
    except UserError:
        return "background"
    return "nearest"


def look_like_ids(masks: Sequence[MaskFacts]) -> bool:
    """Return whether values, or colours, are ids of objects: counted from 1 or many, and each is in one piece."""
    inside = [facts.values - _BLACK for facts in masks if facts.values - _BLACK]
    pieces = [facts.one_piece for facts in masks if facts.values - _BLACK]
    if not inside or float(np.mean(pieces)) < _ONE_PIECE or not any(facts.values & _BLACK for facts in masks):
        return False
    from_one = all(values == set(range(1, len(values) + 1)) for values in inside)
    differ = len(set(map(len, inside))) > 1
    return len(set().union(*inside)) > _MOST_CLASSES or (from_one and differ and max(map(len, inside)) > 2)


def guess_thing(names: Sequence[str]) -> str:
    """Return what names call the thing that masks show, else `foreground`."""
    spoken = [word for name in names for word in words(name)]
    return next(
        (thing for begin, thing in _THINGS.items() if any(word.startswith(begin) for word in spoken)), "foreground"
    )


def _frequent(masks: Sequence[MaskFacts]) -> list[int]:
    """Return the values that count as classes: if few all but strays, else peaks that cover nearly all pixels.

    A stray is in hardly a pixel of a mask or two, or near a more frequent value in other masks: 128 for 127.
    """
    pixels, total = _counted(masks), sum(sum(facts.pixels.values()) for facts in masks)
    if len(pixels) <= _MOST_CLASSES:
        seen_in = Counter(value for facts in masks for value in facts.pixels)
        few = max(1, len(masks) // 10)
        kept = [value for value in pixels if pixels[value] >= _RARE * total or seen_in[value] > few]
        kept = [value for value in kept if not _other_spelling(value, kept, masks, pixels)]
        return sorted(kept) if len(kept) > 1 else sorted(pixels)
    reach = 0 if max(pixels) >= COLOUR else _NEAR  # neighbouring colours aren't neighbouring numbers
    frequent = [value for value, number in pixels.items() if number >= _FREQUENT * total]
    peaks = [value for value in frequent if pixels[value] == max(pixels[near] for near in _near(value, reach))]
    covered = sum(number for value, number in pixels.items() if any(abs(value - peak) <= reach for peak in peaks))
    return sorted(peaks) if covered >= (1 - _STRAY_SHARE) * total else sorted(pixels)


def _other_spelling(value: int, kept: Sequence[int], masks: Sequence[MaskFacts], pixels: Mapping[int, int]) -> bool:
    """Return whether a grey level stands for a more frequent one near it that is in other masks."""
    nearer = [v for v in kept if v != value and abs(v - value) <= _NEAR and pixels[v] > pixels[value]]
    return value >= _GREY_LEVEL and any(not any({value, v} <= facts.values for facts in masks) for v in nearer)


def _near(value: int, distance: int) -> range:
    """Return the values within a distance of a value."""
    return range(value - distance, value + distance + 1)


def _alike(masks: Sequence[MaskFacts]) -> list[MaskFacts]:
    """Return masks of which either none or all hold colours: a grey mask among coloured ones is read as a colour."""
    if all(value < COLOUR for facts in masks for value in facts.pixels):
        return list(masks)
    grey = {value: COLOUR + value * 0x010101 for value in range(256)}
    return [
        replace(facts, pixels={grey.get(value, value): number for value, number in facts.pixels.items()})
        for facts in masks
    ]


def _counted(masks: Sequence[MaskFacts]) -> Counter[int]:
    """Count the pixels of masks by value."""
    counted: Counter[int] = Counter()
    for facts in masks:
        counted.update(facts.pixels)
    return counted


def _class_names(frequent: Sequence[int], pixels: Mapping[int, int], thing: str) -> dict[int, str]:
    """Name values: 0 or the most frequent is the background, a single other one the thing, several are numbered."""
    black = sorted(_BLACK & set(frequent))
    background = black[0] if black else max(frequent, key=lambda value: pixels[value])
    others = [value for value in frequent if value != background]
    names = [thing] if len(others) == 1 else [f"class_{number}" for number in range(1, len(others) + 1)]
    return {background: "background", **dict(zip(others, names, strict=True))}


def _listed(
    pixels: Mapping[int, int], values: dict[int, str], why: str, *, sure: bool, objects: bool = False
) -> Classes:
    """Return classes with their shares of the pixels; strays count to the nearest value."""
    nearest = {value: min(values, key=lambda listed: abs(listed - value)) for value in pixels}
    names = list(dict.fromkeys(values.values()))
    total = sum(pixels.values())
    of_class = dict.fromkeys(names, 0)
    for value, number in pixels.items():
        of_class[values[nearest[value]]] += number
    shares = tuple(of_class[name] / total for name in names)
    by_value = {written(value): name for value, name in values.items()}
    return Classes({"mask_values": by_value}, why, sure, objects, shares)


def _objects(pixels: Mapping[int, int], thing: str) -> Classes:
    """Return the classes of masks that hold ids of objects."""
    inside = 1 - sum(pixels.get(black, 0) for black in _BLACK) / sum(pixels.values())
    params = {"mask_values": {0: "background", 1: thing}, "mask_kind": "objects"}
    return Classes(
        params, f"ids of objects, up to {written(max(pixels))}, each in one piece", True, True, (1 - inside, inside)
    )


def written(value: int) -> int | str:
    """Return a mask value as params write it: a number, or a colour."""
    return f"#{value - COLOUR:06x}" if value >= COLOUR else value


def _first(values: Sequence[int] | Mapping[int, int]) -> str:
    """List the first values in words."""
    shown = [str(written(value)) for value in sorted(values)[:6]]
    return ", ".join(shown) + (", .." if len(values) > 6 else "")
