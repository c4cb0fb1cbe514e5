"""Copies, overlapping and adjacent tiles and neighbouring frames are found; unrelated images aren't."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from segops.data.mask_fit import turned
from segops.data.relatives import Relative, RelativeFinder

Image = np.ndarray


def texture(seed: int, height: int = 96, width: int = 96, channels: int = 1) -> Image:
    """Smooth random structures with a little noise, HWC uint8."""
    random = np.random.default_rng(seed)
    blobs = np.stack([gaussian_filter(random.normal(size=(height, width)), 3) for _ in range(channels)], axis=-1)
    noisy = 128 + 500 * blobs + random.normal(0, 2, (height, width, 1))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def related(ours: dict[str, Image], theirs: dict[str, Image]) -> list[Relative]:
    finder = RelativeFinder()
    for image_id, image in {**theirs, **ours}.items():
        finder.add(image_id, image)
    return finder.related(list(ours), list(theirs))


def others(count: int = 20, **shape: int) -> dict[str, Image]:
    return {f"other{chr(97 + number)}": texture(100 + number, **shape) for number in range(count)}


def test_unrelated_images_have_no_relative() -> None:
    assert related({f"mine{chr(97 + number)}": texture(number) for number in range(20)}, others()) == []


def brighter(image: Image) -> Image:
    return (0.6 * image + 30).astype(np.uint8)


def noisier(image: Image) -> Image:
    return np.clip(image + np.random.default_rng(0).normal(0, 12, image.shape), 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[Image], Image]] = {
    "equal": np.array,
    "brighter": brighter,
    "noisier": noisier,
    "smaller": lambda image: image[::2, ::2],
    "cropped": lambda image: image[2:-2, 3:-1],
    "turned": lambda image: turned(image, 1),
    "turned and flipped": lambda image: turned(image, 7),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_a_near_duplicate(change: str) -> None:
    copy = np.ascontiguousarray(CHANGES[change](texture(3)))
    found = related({"copy": copy}, {"original": texture(3), **others()})
    assert [(one.image_id, one.relative_id, one.kind) for one in found] == [("copy", "original", "near-duplicate")]


def test_a_turned_copy_says_how_it_lies() -> None:
    (found,) = related({"copy": turned(texture(3), 1)}, {"original": texture(3), **others()})
    assert found.evidence == "correlation 1.00, turned by 90 degrees to the left"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_overlapping_tiles_are_found_with_their_offset(dtype: type, channels: int) -> None:
    field: Image = texture(1, 160, 160, channels).astype(dtype)
    tiles: dict[str, Image] = {"first": field[:96, :96], "second": field[40:136, 24:120]}
    rest: dict[str, Image] = {name: image.astype(dtype) for name, image in others(channels=channels).items()}
    found = [
        one
        for one in related({"second": tiles["second"]}, {"first": tiles["first"], **rest})
        if one.kind != "near-duplicate"
    ]
    assert [(one.relative_id, one.kind, one.evidence) for one in found] == [
        ("first", "overlapping tile", "equal pixels, 40 px up, 24 px left")
    ]
    (back,) = [
        one for one in related({"first": tiles["first"]}, {"second": tiles["second"]}) if one.kind == "overlapping tile"
    ]
    assert back.evidence == "equal pixels, 40 px down, 24 px right"


def test_a_scale_bar_in_every_image_is_no_overlap() -> None:
    images = {f"mine{chr(97 + number)}": texture(number) for number in range(30)}
    bar = texture(999, 20, 20)
    for image in images.values():
        image[70:90, 70:90] = bar
    names = list(images)
    ours, theirs = ({name: images[name] for name in part} for part in (names[:15], names[15:]))
    assert related(ours, theirs) == []


def test_adjacent_tiles_and_tiles_between_which_others_lie_are_found() -> None:
    field = texture(5, 96, 288)
    left, middle, right = field[:, :96], field[:, 96:192], field[:, 192:]
    found = related({"left": left}, {"middle": middle, "right": right, **others()})
    assert [(one.relative_id, one.kind, one.evidence, one.strength) for one in found] == [
        ("middle", "adjacent tile", "neighbour on the right", 1.0),
        ("right", "adjacent tile", "of the same field, through other tiles", 0.0),
    ]


def test_neighbouring_frames_are_found_by_their_names_and_likeness() -> None:
    scene, change = texture(7).astype(float), [texture(200 + number).astype(float) for number in range(12)]
    frames = {f"film_t{number:02d}": (0.65 * scene + 0.35 * change[number]).astype(np.uint8) for number in range(12)}
    theirs = {name: image for name, image in frames.items() if name not in ("film_t04", "film_t11")} | others()
    found = related({"film_t04": frames["film_t04"]}, theirs)
    assert {one.kind for one in found} <= {"neighbouring slice or frame", "near-duplicate"}
    assert {"film_t03", "film_t05"} <= {one.relative_id for one in found}
    renamed = {f"x{name[::-1]}": image for name, image in others().items()}
    assert related({"film_t04": texture(8)}, {**renamed, "film_t05": texture(9)}) == []  # a name alone is nothing


def test_constant_and_tiny_images_are_no_relatives() -> None:
    flat = {"flat": np.full((96, 96, 1), 7, np.uint8), "tiny": np.zeros((4, 4, 1), np.uint8)}
    assert related(flat, {"flat2": np.full((96, 96, 1), 7, np.uint8) + 1, **others()}) == []
