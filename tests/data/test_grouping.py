"""Tiles of one field are found by construction, and only those."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from sklearn.model_selection import train_test_split

from segops.data import grouping
from segops.data.grouping import FieldMatcher

Pixels = npt.NDArray[np.generic]
TILE_PX = 64


def field(seed: int, rows: int, columns: int, channels: int = 1, full: float = 255) -> Pixels:
    """A microscope-like field: blurred blobs on a dark, noisy background, rows x columns tiles large."""
    random = np.random.default_rng(seed)
    shape = (rows * TILE_PX, columns * TILE_PX)
    blobs = gaussian_filter((random.random(shape) < 0.006).astype(float), 4)
    noise = random.normal(0, 0.01, (*shape, channels))
    image = 0.05 + 0.7 * (blobs / blobs.max())[..., None] + noise
    return np.asarray(np.clip(image, 0, 1) * full, np.uint16 if full > 255 else np.uint8)


def tiles(image_HWC: Pixels, prefix: str) -> dict[str, Pixels]:
    """The tiles of a field by id: prefix, row, column."""
    height, width = image_HWC.shape[:2]
    return {
        f"{prefix}{y}{x}": image_HWC[y * TILE_PX : (y + 1) * TILE_PX, x * TILE_PX : (x + 1) * TILE_PX]
        for y in range(-(-height // TILE_PX))
        for x in range(-(-width // TILE_PX))
    }


def groups(images: dict[str, Pixels]) -> dict[str, str]:
    matcher = FieldMatcher()
    for image_id, image in images.items():
        matcher.add(image_id, image)
    return matcher.groups()


def test_tiles_share_a_group_and_unrelated_images_stand_alone() -> None:
    images = tiles(field(1, 2, 2), "a") | tiles(field(2, 2, 3), "b") | tiles(field(3, 1, 2), "c")
    alone = {f"z{seed}": field(seed, 1, 1) for seed in range(10, 22)}
    expected = {name: f"{name[0]}00" for name in images} | {name: name for name in alone}
    assert groups(images | alone) == expected


def test_links_say_which_tile_lies_where() -> None:
    matcher = FieldMatcher()
    for image_id, image in tiles(field(1, 2, 2), "a").items():
        matcher.add(image_id, image)
    assert {(link.first, link.second, link.side) for link in matcher.links()} == {
        ("a00", "a01", "right"), ("a10", "a11", "right"), ("a00", "a10", "below"), ("a01", "a11", "below")
    }  # fmt: skip


@pytest.mark.parametrize(("channels", "full"), [(3, 255), (1, 65535)])
def test_colour_and_16_bit_tiles_are_found(channels: int, full: float) -> None:
    images = tiles(field(4, 1, 3, channels, full), "a") | tiles(field(5, 1, 1, channels, full), "b")
    assert groups(images) == {"a00": "a00", "a01": "a00", "a02": "a00", "b00": "b00"}


def test_the_smaller_tile_at_a_field_s_border_belongs_to_it() -> None:
    image = field(6, 2, 2)[:, : TILE_PX + 40]
    assert set(groups(tiles(image, "a")).values()) == {"a00"}


@given(st.permutations(sorted(tiles(field(1, 2, 2), "a") | tiles(field(2, 1, 2), "b"))))
@settings(max_examples=10, deadline=None)
def test_the_order_of_images_does_not_matter(order: list[str]) -> None:
    images = tiles(field(1, 2, 2), "a") | tiles(field(2, 1, 2), "b")
    found = groups({name: images[name] for name in order})
    assert found == {name: f"{name[0]}00" for name in sorted(images)}
    assert list(found) == sorted(images)


def background(seed: int, how: str) -> Pixels:
    """An image whose edges hold no structure of its own."""
    random = np.random.default_rng(seed)
    image = np.full((TILE_PX, TILE_PX, 1), 12, np.uint8)
    if how == "noise":
        image = random.integers(8, 16, image.shape, dtype=np.uint8)
    if how == "frame":  # the same frame burnt into every image
        image[...] = (np.arange(TILE_PX) * 4 % 256).astype(np.uint8)[:, None, None]
    if how == "gradient":  # the same uneven light in every image
        image[...] = (20 + np.arange(TILE_PX) / 8).astype(np.uint8)[:, None, None]
    image[20:40, 20:40] = random.integers(60, 250, (20, 20, 1), dtype=np.uint8)
    return image


@pytest.mark.parametrize("how", ["constant", "noise", "frame", "gradient"])
def test_edges_without_a_structure_of_their_own_prove_nothing(how: str) -> None:
    images = {f"i{seed}": background(seed, how) for seed in range(12)}
    assert groups(images) == {name: name for name in images}


def test_equal_images_share_a_group_and_do_not_hide_their_neighbours() -> None:
    images = tiles(field(1, 1, 2), "b")
    assert groups(images | {"a": images["b00"], "c": field(9, 1, 1)}) == {"a": "a", "b00": "a", "b01": "a", "c": "c"}


def test_tiny_images_and_an_empty_matcher_are_fine() -> None:
    assert groups({}) == {}
    assert groups({"a": np.zeros((3, 5, 1), np.uint8), "b": np.ones((3, 5, 1), np.uint8)}) == {"a": "a", "b": "b"}


def test_an_id_that_comes_twice_is_our_bug() -> None:
    matcher = FieldMatcher()
    matcher.add("a", field(1, 1, 1))
    with pytest.raises(ValueError, match="image a was added twice"):
        matcher.add("a", field(2, 1, 1))


def test_memory_is_eight_lines_an_image() -> None:
    matcher = FieldMatcher()
    matcher.add("a", field(1, 4, 4))
    kept = sum(lines.nbytes for by_id in matcher._lines.values() for lines in by_id.values())
    assert kept == 8 * 4 * TILE_PX
    assert all(lines.base is None for by_id in matcher._lines.values() for lines in by_id.values())


@pytest.mark.slow
def test_fields_of_dsb2018(dsb2018_zip: Path) -> None:
    """Independent counts of fields and of test images that share one with a training image, for 570 images and all."""
    matcher = FieldMatcher()
    with zipfile.ZipFile(dsb2018_zip) as archive:
        for name in archive.namelist():
            if "/images/" in name and name.endswith(".png"):
                image = np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
                matcher.add(name.split("/")[0], image)
    found = matcher.groups()
    images = len(found)
    fields, sharing, test_size = {570: (229, 79, 114), 670: (297, 92, 134)}[images]
    assert len(set(found.values())) == pytest.approx(fields, abs=8)
    # Every field is a grid: tiles placed by their links never meet in one cell, and no link contradicts another.
    place: dict[str, tuple[int, int]] = {}
    steps: dict[str, list[tuple[str, int, int]]] = {name: [] for name in found}
    for link in matcher.links():
        down, right = (1, 0) if link.side == "below" else (0, 1)
        steps[link.first].append((link.second, down, right))
        steps[link.second].append((link.first, -down, -right))
    for name in found:
        stack = [] if name in place else [name]
        place.setdefault(name, (0, 0))
        while stack:
            here = stack.pop()
            for there, down, right in steps[here]:
                expected = (place[here][0] + down, place[here][1] + right)
                if there not in place:
                    place[there] = expected
                    stack.append(there)
                assert place[there] == expected
    assert len({(found[name], place[name]) for name in found}) == images
    ids = sorted(found)
    rest, _ = train_test_split(ids, test_size=test_size, random_state=42)
    train, test = train_test_split(rest, test_size=test_size, random_state=42)
    in_train = {found[name] for name in train}
    assert sum(found[name] in in_train for name in test) == pytest.approx(sharing, abs=5)


def test_a_tile_that_continues_in_itself_is_not_its_own_neighbour() -> None:
    """A texture that wraps around: the last column goes on in the first one, the last row in the first one."""
    random = np.random.default_rng(0)
    wrapped = gaussian_filter(random.random((TILE_PX, TILE_PX)), 3, mode="wrap")
    image = ((wrapped - wrapped.min()) / np.ptp(wrapped) * 255).astype(np.uint8)[..., None]
    matcher = FieldMatcher()
    matcher.add("a", image)
    assert matcher.links() == []
    # One that wraps around from left to right and has a true neighbour below: that one alone is found.
    below = gaussian_filter(random.random((2 * TILE_PX, TILE_PX)), 3, mode=("nearest", "wrap"))
    pair = ((below - below.min()) / np.ptp(below) * 255).astype(np.uint8)[..., None]
    matcher = FieldMatcher()
    matcher.add("above", pair[:TILE_PX])
    matcher.add("below", pair[TILE_PX:])
    assert [(link.first, link.second, link.side) for link in matcher.links()] == [("above", "below", "below")]


@pytest.mark.parametrize(
    ("disagreements", "clear"),
    [([0.1], True), ([0.1, 0.124], False), ([0.126, 0.9, 0.1], True), ([0.0, 0.00124], False), ([0.0, 0.00126], True)],
)
def test_a_partner_is_clear_when_the_next_one_disagrees_a_quarter_more(disagreements: list[float], clear: bool) -> None:
    assert grouping._is_clear([(one,) for one in disagreements]) == clear


def test_of_two_partners_the_better_one_is_taken_at_both_edges() -> None:
    """`a` goes on in `b` nearly exactly and in `c` less well; `d` goes on in `b` less well than `a` does."""
    random = np.random.default_rng(0)
    seam, *others = 1_000 * random.normal(size=(5, TILE_PX)).cumsum(axis=1)
    best, *near = seam + np.array([[10], [400], [400]]) * random.normal(size=(3, TILE_PX))
    edges = {"a": (others[0], seam), "b": (best, others[1]), "c": (near[0], others[2]), "d": (others[3], near[1])}

    def links(names: str) -> set[str]:
        # Last line, the one before it, first line, the one after it: inside a tile a step is 2,000.
        lines = [(edges[name][1], edges[name][1] + 2_000, edges[name][0], edges[name][0] + 2_000) for name in names]
        found = grouping._continuations(np.array(lines)[..., None])
        return {names[i] + names[j] for i, j, *_ in found}

    assert links("ac") == {"ac"}
    assert links("bd") == {"db"}
    assert links("abcd") == {"ab"}


def test_a_side_of_16_pixels_is_long_enough() -> None:
    image = field(1, 1, 1)
    assert len(set(groups({"a": image[8:24], "b": image[24:40]}).values())) == 1
    assert len(set(groups({"a": image[9:24], "b": image[24:39]}).values())) == 2


def test_a_links_agreement_is_that_of_the_two_seams() -> None:
    """2 a.b / (a.a + b.b) of the smoothed gradients along them."""
    left, right = tiles(field(1, 1, 2), "a").values()
    matcher = FieldMatcher()
    matcher.add("a00", left)
    matcher.add("a01", right)
    [link] = matcher.links()
    a, b = (
        np.diff(gaussian_filter1d(seam.astype(np.float32), 1, mode="nearest"))
        for seam in (left[:, -1, 0], right[:, 0, 0])
    )
    assert link.agreement == pytest.approx(2 * (a @ b) / (a @ a + b @ b), abs=1e-5)
