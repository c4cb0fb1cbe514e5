"""Looks at the pixels of a sample of images for what no manifest says.

Does each mask belong to its image, and are images of different groups related?
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from segops.data.parallel import ALL, Part
from segops.params.file_rules import Dimensions
from segops.params.validate import ValidateParams
from segops.progress import track

if TYPE_CHECKING:
    import pandas as pd

    from segops.data.mask_fit import ImageMaps, MaskMaps
    from segops.data.mask_placement import Agreement
    from segops.data.relatives import RelativeFinder

OWN = "the own mask"
IN_PLACE = "in place"
NONE = "none"
_FEWEST = 5  # masks that are compared; fewer show nothing
_RUN = 20  # neighbours by name in the sample: a shift by one file shows among neighbours
_AT_ONCE = 64  # images of a shard that a process looks at in turn
_MOVED = 64  # images whose masks are tried in other places


class Beside(NamedTuple):
    """What a page shows beside an image: an image under a mask, by what `data.mask_fit.turned` does to that."""

    image_id: str
    mask_id: str
    turn: int = 0


class Pixels(NamedTuple):
    """What the sample's pixels show.

    Attributes:
        table: a row per image that was looked at: image_id; mask_fit, the share of the others' masks that fit it less
            well; fitting_mask, OWN or the mask that fits better; mask_place, IN_PLACE or how far the masks lie off;
            swapped, 1 where foreground and background look swapped; relative, NONE or the closest one in another group.
            Those of masks are missing where a mask couldn't be compared.
        fitting: by image id the image under the mask that fits better.
        relatives: by image id the relative in another group.
    """

    table: pd.DataFrame
    fitting: dict[str, Beside]
    relatives: dict[str, Beside]


class Pair(NamedTuple):
    """What an image and its mask show."""

    image: ImageMaps
    mask: MaskMaps
    swapped: bool
    agreement: Agreement | None


class Seen(NamedTuple):
    """What was seen of images: comparable pairs by id, and what tells relatives."""

    pairs: dict[str, Pair]
    finder: RelativeFinder

    @classmethod
    def nothing(cls, dimensions: Dimensions) -> Self:
        """Return what is before an image was looked at."""
        from segops.data.relatives import RelativeFinder

        return cls({}, RelativeFinder(tiles=dimensions == 2))


def classes_of_seen() -> tuple[type, ...]:
    """Return the classes that `Seen` is made of, for what reads parts of it."""
    from segops.data.grouping import FieldMatcher
    from segops.data.mask_fit import ImageMaps, MaskMaps
    from segops.data.overlaps import Anchors
    from segops.data.relatives import RelativeFinder

    return Seen, Pair, ImageMaps, MaskMaps, RelativeFinder, Anchors, FieldMatcher


@dataclass(frozen=True)
class Sample:
    """The images that are looked at: about `validate.compared_images`, runs of neighbours by name.

    Masks are compared where there are a few with a border between classes and of their images' sizes. Of a volume the
    slice with the most foreground is looked at.

    Attributes:
        ids: in the natural order of names; none where `validate.compared_images` is 0.
        comparable: images whose masks are compared.
        classes: the number of classes, background included.
        dimensions: 3: the images are volumes.
    """

    dataset: Path
    manifest: pd.DataFrame
    ids: list[str]
    comparable: frozenset[str]
    classes: int
    dimensions: Dimensions

    @classmethod
    def of(
        cls,
        dataset: Path,
        manifest: pd.DataFrame,
        params: ValidateParams,
        classes: int,
        dimensions: Dimensions = 2,
    ) -> Self:
        """Draw the sample of a dataset."""
        from segops.data.name_sequences import natural_order, runs

        comparable = runs(_comparable(manifest), params.compared_images, _RUN)
        every = runs(manifest["image_id"].drop_duplicates().tolist(), params.compared_images, _RUN)
        ids = natural_order([*{*comparable, *every}])
        return cls(dataset, manifest, ids, frozenset(comparable), classes, dimensions)

    def look(self, workers: int = 1, part: Part = ALL) -> Seen:
        """Look at a part of the sample, shard by shard; what is seen doesn't depend on the number of processes."""
        from segops.data.parallel import in_order
        from segops.data.shards import images_by_shard

        moved = frozenset(self.ids[:: -(-len(self.ids) // _MOVED)]) if self.ids else frozenset[str]()
        looker = _Looker(self.dataset, self.comparable, moved, self.classes, self.dimensions)
        shares = part.of(
            [
                (shard, image_ids[first : first + _AT_ONCE])
                for shard, image_ids in images_by_shard(self.dataset, set(self.ids))
                for first in range(0, len(image_ids), _AT_ONCE)
            ]
        )
        return self.join(track(in_order(looker, shares, workers), "validate", len(shares)))

    def join(self, parts: Iterable[Seen]) -> Seen:
        """Put what was seen of parts together, in their order."""
        seen = Seen.nothing(self.dimensions)
        for of_part in parts:
            seen.pairs.update(of_part.pairs)
            seen.finder.join(of_part.finder)
        return seen

    def judge(self, seen: Seen) -> Pixels | None:
        """Say what the sample's pixels show; None for an empty sample."""
        import pandas as pd

        if not self.ids:
            return None
        relatives = _relatives(seen.finder, self.ids, self.manifest)
        columns, fitting = _masks([name for name in self.ids if name in seen.pairs], seen.pairs)
        related = [relatives.get(name, (NONE, None))[0] for name in self.ids]
        table = pd.DataFrame({"image_id": self.ids, "relative": related})
        return Pixels(
            table.merge(columns, on="image_id", how="left"),
            fitting,
            {name: Beside(relative, relative) for name, (_, relative) in relatives.items()},
        )


def look(
    dataset: Path, manifest: pd.DataFrame, params: ValidateParams, classes: int, dimensions: Dimensions = 2
) -> Pixels | None:
    """Look at a sample of a dataset's images, and say what it shows; None where `validate.compared_images` is 0."""
    sample = Sample.of(dataset, manifest, params, classes, dimensions)
    return sample.judge(sample.look())


def _comparable(manifest: pd.DataFrame) -> list[str]:
    """List the images with a mask of their size that holds several classes."""
    same_size = (manifest["height"] == manifest["mask_height"]) & (manifest["width"] == manifest["mask_width"])
    several = manifest["classes"].str.contains(" ", regex=False)
    return manifest.loc[same_size & several, "image_id"].drop_duplicates().tolist()


@dataclass(frozen=True)
class _Looker:
    """Looks at images of a shard.

    Args:
        comparable: images whose masks are compared.
        moved: images whose masks are tried in other places.
    """

    dataset: Path
    comparable: Set[str]
    moved: Set[str]
    classes: int
    dimensions: Dimensions

    def __call__(self, part: tuple[str, list[str]]) -> Seen:
        """Measure images of a shard, and their comparable masks with a border between classes, by id."""
        from segops.data.mask_fit import border, image_maps, mask_maps
        from segops.data.mask_placement import looks_swapped, places
        from segops.data.shards import StoredExample, read_shard

        seen = Seen.nothing(self.dimensions)
        for shown in map(StoredExample.as_picture, read_shard(self.dataset, *part)):
            image_id, image_HWC, mask_HW = shown.image_id, shown.image_HWC, shown.mask_HW
            seen.finder.add(image_id, image_HWC)
            if image_id in self.comparable and border(mask_HW).any():
                agreement = places(image_HWC, mask_HW) if image_id in self.moved else None
                maps = image_maps(image_HWC), mask_maps(mask_HW, self.classes)
                seen.pairs[image_id] = Pair(*maps, looks_swapped(mask_HW), agreement)
        return seen


def _relatives(finder: RelativeFinder, ids: Sequence[str], manifest: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Return each image's closest relative in another group: words, and its id. Equal images are another check's."""
    from segops.data.relatives import KINDS

    rows = manifest.drop_duplicates("image_id").set_index("image_id")
    group_of, sha256_of = rows["group_id"].to_dict(), rows["image_sha256"].to_dict()
    found: dict[str, tuple[str, str]] = {}
    for pair in sorted(finder.related(ids, ids), key=lambda pair: (KINDS.index(pair.kind), -pair.strength, pair)):
        apart = group_of[pair.image_id] != group_of[pair.relative_id]
        if apart and sha256_of[pair.image_id] != sha256_of[pair.relative_id]:
            group = group_of[pair.relative_id]
            of_group = "" if group == pair.relative_id else f" of group {group}"
            words = f"{pair.kind} {pair.relative_id}{of_group}: {pair.evidence}"
            found.setdefault(pair.image_id, (words, pair.relative_id))
    return found


def _masks(ids: Sequence[str], seen: Mapping[str, Pair]) -> tuple[pd.DataFrame, dict[str, Beside]]:
    """Return the columns of compared masks, none where they are too few, and the masks that fit better."""
    import pandas as pd

    from segops.data.mask_fit import TURNS, fits
    from segops.data.mask_placement import offset

    ids = list(ids) if len(ids) >= _FEWEST else []
    shown = [seen[image_id] for image_id in ids]
    found = fits([pair.image for pair in shown], [pair.mask for pair in shown]) if shown else []
    moved = offset([pair.agreement for pair in shown if pair.agreement is not None])
    fitting, words = {}, []
    for image_id, fit in zip(ids, found, strict=True):
        if fit.turn:
            fitting[image_id] = Beside(image_id, image_id, fit.turn)
            words.append(f"{OWN} {TURNS[fit.turn - 1]}")
        elif fit.better_mask is not None:
            fitting[image_id] = Beside(image_id, ids[fit.better_mask])
            words.append(f"the mask of {ids[fit.better_mask]}")
        else:
            words.append(OWN)
    columns = {
        "image_id": ids,
        "mask_fit": [fit.beaten for fit in found],
        "fitting_mask": words,
        "mask_place": [moved.words() if moved else IN_PLACE] * len(ids),
        "swapped": [int(pair.swapped) for pair in shown],
    }
    return pd.DataFrame(columns).astype({"image_id": str}), fitting
