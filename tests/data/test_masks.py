import io
from typing import Literal

import imagecodecs
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from segops.data.masks import MaskValues, read_mask
from segops.data.read_changes import ChangeLog
from segops.errors import UserError

AXON = {0: "background", 127: "myelin", 255: "axon"}
VALUES = np.array([[0, 127, 255], [255, 0, 127]], np.uint8)


def png(array: np.ndarray) -> bytes:
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(array)))


def test_file_values_become_class_indices_in_the_order_of_the_params() -> None:
    changes = ChangeLog()
    mask_HW = MaskValues(AXON).apply(VALUES, "a.png", changes)
    np.testing.assert_array_equal(mask_HW, [[0, 1, 2], [2, 0, 1]])
    assert mask_HW.dtype == np.uint8
    assert changes.entries() == []


def test_two_values_may_name_one_class() -> None:
    mask_HW = MaskValues({0: "background", 1: "cell", 7: "cell", 65535: "debris"}).apply(
        np.array([[0, 1], [7, 65535]], np.uint16), "a.tif", ChangeLog()
    )
    np.testing.assert_array_equal(mask_HW, [[0, 1], [1, 2]])


def test_a_stray_value_is_an_error_that_names_file_value_and_pixel_count() -> None:
    stray = np.array([[0, 127, 126], [126, 126, 3]], np.uint8)
    with pytest.raises(UserError) as error:
        MaskValues(AXON).apply(stray, "masks/a.png", ChangeLog())
    assert str(error.value) == (
        "masks/a.png: value 126 in 3 pixels (and 1 other stray values) is not in ingest.mask_values (0, 127, 255); "
        "list it there or in ingest.ignore_values, or set ingest.stray_values to nearest or background"
    )


def test_one_stray_pixel_is_counted_in_the_singular() -> None:
    with pytest.raises(UserError, match=r"value 5 in 1 pixel is not"):
        MaskValues(AXON).apply(np.array([[0, 5]], np.uint8), "a.png", ChangeLog())


def test_nearest_takes_a_value_that_is_three_times_as_near_as_another_class() -> None:
    changes = ChangeLog()
    mask_HW = MaskValues({10: "background", 20: "cell", 40: "cell"}, "nearest").apply(
        np.array([[5, 10, 12, 18], [20, 25, 45, 45]], np.uint8), "a.png", changes
    )
    np.testing.assert_array_equal(mask_HW, [[0, 0, 0, 1], [1, 1, 1, 1]])
    assert [(one.change, one.pixels, one.named) for one in changes.entries()] == [
        (f"stray mask value {value} taken as the nearest listed value", pixels, {"a.png": pixels})
        for value, pixels in ((12, 1), (18, 1), (25, 1), (45, 2), (5, 1))
    ]


@pytest.mark.parametrize("value", [4, 13, 15, 17])
def test_nearest_refuses_a_value_that_is_not_near(value: int) -> None:
    values = np.array([[0, 10, 20], [value, value, 11]], np.uint8)
    with pytest.raises(UserError) as error:
        MaskValues({0: "background", 10: "cell", 20: "debris"}, "nearest").apply(values, "a.png", ChangeLog())
    assert str(error.value).startswith(
        f"a.png: value {value} in 2 pixels (and 1 other stray values) is not in ingest.mask_values (0, 10, 20); "
        "it is too far from them for ingest.stray_values: nearest; list it, "
    )


def test_nearest_takes_the_stray_values_of_a_real_mask() -> None:
    """Those of the AxonDeepSeg masks: 128 for all of 127, 130 and 233 in a few pixels."""
    mask_HW = MaskValues(AXON, "nearest").apply(np.array([[0, 128, 130], [233, 255, 0]], np.uint8), "a", ChangeLog())
    np.testing.assert_array_equal(mask_HW, [[0, 1, 1], [2, 2, 0]])


def blobs(*values: int) -> np.ndarray:
    """A mask of a square of 4x4 pixels per value, side by side, on background."""
    values_HW = np.zeros((6, 5 * len(values) + 1), np.uint16)
    for number, value in enumerate(values):
        values_HW[1:5, 5 * number + 1 : 5 * number + 5] = value
    return values_HW


@pytest.mark.parametrize("rule", ["error", "nearest"])
@pytest.mark.parametrize(
    ("values_HW", "advice"),
    [
        (blobs(1, 1, 1), 'the mask holds 0 and 1 alone: write ingest.mask_values: {"0": background, "1": cell}'),
        (blobs(1, 2)[1:5, [1, 6]], 'the mask holds 1 and 2 alone: write ingest.mask_values: {"1": background, "2": c'),
        (blobs(1, 2, 3, 4), "its values 1 to 4 look like ids of objects: write ingest.mask_kind: objects, or list"),
        (blobs(*range(1, 300)), "its values 1 to 299 look like ids of objects: write ingest.mask_kind: objects"),
        (blobs(7, 12, 9, 255, 60001), "its values 7 to 60001 look like ids of objects: write ingest.mask_kind"),
        (blobs(1, 2, 1, 2, 1, 2), "its values 1 to 2 look like numbers of classes: list them in ingest.mask_values"),
        (blobs(1, 2, 3, 1, 2, 3), "its values 1 to 3 look like numbers of classes: list them in ingest.mask_values"),
    ],
)
def test_values_that_mean_something_are_refused_with_what_to_write(
    rule: Literal["error", "nearest"], values_HW: np.ndarray, advice: str
) -> None:
    values = MaskValues({0: "background", 255: "cell"}, rule)
    with pytest.raises(UserError) as error:
        values.apply(values_HW, "a.tif", ChangeLog())
    assert f" is not in ingest.mask_values (0, 255); {advice}" in str(error.value)


def test_specks_of_noise_are_neither_ids_nor_classes() -> None:
    values_HW = np.where(np.random.default_rng(0).random((40, 40)) < 0.2, 0, 255).astype(np.uint8)
    values_HW[::5, ::5] = np.arange(64).reshape(8, 8) % 5  # as JPEG leaves them
    mask_HW = MaskValues({0: "background", 255: "cell"}, "nearest").apply(values_HW, "a.png", ChangeLog())
    np.testing.assert_array_equal(mask_HW, values_HW == 255)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
def test_values_of_wide_integers_are_looked_up_as_they_are(dtype: str) -> None:
    values = MaskValues(AXON)
    np.testing.assert_array_equal(
        values.apply(VALUES.astype(dtype), "a", ChangeLog()), values.apply(VALUES, "a", ChangeLog())
    )
    for stray in (70_000, np.iinfo(dtype).max, np.iinfo(dtype).min or 9):
        with pytest.raises(UserError, match=rf"value {stray} in 1 pixel is not"):
            values.apply(np.array([[0, 255, stray]], dtype), "a", ChangeLog())


def test_background_takes_class_0() -> None:
    changes = ChangeLog()
    mask_HW = MaskValues(AXON, "background").apply(np.array([[254, 255, 1, 127]], np.uint8), "a.png", changes)
    np.testing.assert_array_equal(mask_HW, [[0, 2, 0, 1]])
    assert [one.change for one in changes.entries()] == [
        "stray mask value 1 taken as background",
        "stray mask value 254 taken as background",
    ]


@given(
    st.dictionaries(st.integers(0, 255), st.sampled_from(["a", "b", "c"]), min_size=2),
    st.lists(st.integers(0, 255), min_size=1, max_size=40),
)
def test_nearest_agrees_with_its_definition(mask_values: dict[int, str], pixels: list[int]) -> None:
    values, changes = MaskValues(mask_values, "nearest"), ChangeLog()

    def near(pixel: int) -> bool:
        distance = {value: abs(value - pixel) for value in mask_values}
        closest = min(sorted(mask_values), key=distance.__getitem__)
        others = [distance[value] for value, name in mask_values.items() if name != mask_values[closest]]
        return all(3 * distance[closest] <= other for other in others)

    if not all(map(near, pixels)):
        with pytest.raises(UserError, match=r"is not in ingest\.mask_values"):
            values.apply(np.array([pixels], np.uint8), "a.png", changes)
        return
    assume(not {*pixels} - {*mask_values} or {*pixels} not in ({0, 1}, {1, 2}))  # those look like classes
    mask_HW = values.apply(np.array([pixels], np.uint8), "a.png", changes)
    nearest = [min(sorted(mask_values), key=lambda listed: abs(listed - pixel)) for pixel in pixels]
    assert [values.classes[index] for index in mask_HW[0]] == [mask_values[value] for value in nearest]
    assert sum(one.pixels for one in changes.entries()) == sum(pixel not in mask_values for pixel in pixels)


@pytest.mark.parametrize("value", [-1, 65536])
def test_a_value_that_no_mask_can_hold_is_refused(value: int) -> None:
    with pytest.raises(UserError, match=rf"no 8- or 16-bit mask holds {value}"):
        MaskValues({0: "background", value: "cell"})


@pytest.mark.parametrize(
    "array",
    [
        VALUES,
        VALUES.astype(np.uint16),
        np.dstack([VALUES] * 3),
        np.dstack([VALUES, np.full_like(VALUES, 255)]),
        np.dstack([VALUES] * 3 + [np.full_like(VALUES, 9)]),
    ],
    ids=["grey", "16 bit", "equal channels", "LA", "RGBA"],
)
def test_a_mask_s_values_are_read_from_any_grey_form(array: np.ndarray) -> None:
    np.testing.assert_array_equal(read_mask(png(array), "a.png", ChangeLog()), VALUES)


def test_a_coloured_mask_is_refused() -> None:
    with pytest.raises(UserError, match=r"a.png: a coloured mask"):
        read_mask(png(np.dstack([VALUES, VALUES, VALUES // 2])), "a.png", ChangeLog())


@pytest.mark.parametrize(
    "colours", [[0, 0, 0, 255, 0, 0, 0, 255, 0], [0, 0, 0, 127, 127, 127, 255, 255, 255], [255, 255, 255] * 3]
)
def test_a_palette_mask_is_read_by_its_indices_whatever_its_colours(colours: list[int]) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette(colours)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    np.testing.assert_array_equal(read_mask(stream.getvalue(), "a.png", ChangeLog()), [[0, 1, 2]])


def test_a_1_bit_mask_holds_0_and_255() -> None:
    stream = io.BytesIO()
    Image.fromarray(VALUES > 0).save(stream, "PNG")
    np.testing.assert_array_equal(read_mask(stream.getvalue(), "a.png", ChangeLog()), np.where(VALUES > 0, 255, 0))


@pytest.mark.parametrize("dtype", ["int16", "uint32", "int32", "int64", "uint64", "float32", "float64"])
def test_a_mask_holds_whole_numbers_of_any_type(dtype: str) -> None:
    stream = io.BytesIO()
    np.save(stream, VALUES.astype(dtype))
    values_HW = read_mask(stream.getvalue(), "a.npy", ChangeLog())
    np.testing.assert_array_equal(values_HW, VALUES)
    assert values_HW.dtype.kind in "iu"


def test_a_mask_of_fractions_is_refused() -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([[0, 0.25, 1]], np.float32))
    with pytest.raises(UserError, match=r"^a\.npy: a mask of float32 samples such as 0\.25, no whole numbers; save it"):
        read_mask(stream.getvalue(), "a.npy", ChangeLog())


@pytest.mark.parametrize("value", [-1, 65536, 2**40])
def test_a_value_that_no_16_bit_mask_holds_is_stray(value: int) -> None:
    with pytest.raises(UserError, match=rf"a\.npy: value {value} in 1 pixel"):
        MaskValues({0: "background", 255: "cell"}).apply(np.array([[0, 255, value]]), "a.npy", ChangeLog())


@pytest.mark.parametrize("shape", [(2, 4), (5, 2), (1, 7)])
def test_no_side_of_a_mask_is_taken_for_its_channels(shape: tuple[int, int]) -> None:
    values_HW = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    for form in (values_HW, np.dstack([values_HW] * 3)):
        np.testing.assert_array_equal(read_mask(png(form), "a.png", ChangeLog()), values_HW)
    for coloured in (
        np.dstack([values_HW, values_HW, values_HW + 1]),
        np.dstack([values_HW, values_HW + 1, values_HW]),
    ):
        with pytest.raises(UserError, match=r"a.png: a coloured mask"):
            read_mask(png(coloured), "a.png", ChangeLog())
    stream = io.BytesIO()
    np.save(stream, np.dstack([values_HW] * 2))
    with pytest.raises(UserError, match=r"a.npy: a mask of 2 channels"):
        read_mask(stream.getvalue(), "a.npy", ChangeLog())


def test_as_many_classes_as_8_bits_tell_apart_beside_what_is_ignored() -> None:
    assert len(MaskValues({value: f"class {value}" for value in range(255)}).classes) == 255
    with pytest.raises(UserError, match=r"ingest\.mask_values: 256 classes; at most 255 are kept"):
        MaskValues({value: f"class {value}" for value in range(256)})
