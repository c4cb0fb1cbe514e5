import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segops.data.images import read_image
from segops.data.layouts.microscope import draw_field
from segops.data.masks import read_mask
from segops.data.read_changes import ChangeLog
from segops.data.sources.nuclei import Nuclei
from segops.data.sources.synthetic import parse, write_archive
from segops.errors import UserError

queries = st.builds(Nuclei, n=st.integers(1, 1_000_000), size=st.integers(32, 2048), seed=st.integers(0, 2**32 - 1))


@given(queries)
def test_a_query_s_uri_reads_back(query: Nuclei) -> None:
    assert parse(query.uri) == query


@given(st.text(max_size=30))
def test_any_query_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(UserError):
        query = parse(f"synthetic://nuclei?{text}")
        assert parse(query.uri) == query


def test_what_a_uri_leaves_out_has_a_default() -> None:
    assert parse("synthetic://nuclei") == Nuclei()
    assert parse("synthetic://nuclei?seed=3") == Nuclei(seed=3)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("synthetic://nuclei?sice=64", "unknown key 'sice'; did you mean 'size'?"),
        ("synthetic://nuclei?N=64", "unknown key 'N'; did you mean 'n'?"),
        ("synthetic://nuclei?colour=red", "unknown key 'colour'; known here: n, size, seed"),
        ("synthetic://nuclei?n=many", "n = 'many' must be a whole number in 1..1000000"),
        ("synthetic://nuclei?n=0", "n = '0' must be a whole number in 1..1000000"),
        ("synthetic://nuclei?n=", "n = '' must be a whole number"),
        ("synthetic://nuclei?n=1_0", "n = '1_0' must be a whole number"),
        ("synthetic://nuclei?size=31", "size = '31' must be a whole number in 32..2048"),
        ("synthetic://nuclei?seed=-1", "seed = '-1' must be"),
        ("synthetic://nuclei?n=4&n=5", "'n' stands there twice"),
        ("synthetic://cells?n=4", "the generators are synthetic://nuclei?n=96&size=128&seed=0 and synthetic://organs?"),
    ],
)
def test_a_wrong_uri_is_an_error_that_says_what_is_right(uri: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        parse(uri)
    assert message in str(error.value)


def test_the_same_query_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("1.tar", "2.tar"):
        write_archive(tmp_path / name, Nuclei(n=9, size=32, seed=5))
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


def test_growth_and_another_count_leave_earlier_fields_as_they_were() -> None:
    few, many = (dict(Nuclei(n=n, size=32, seed=5).members()) for n in (6, 14))
    assert {name: many[name] for name in few} == few
    assert len([name for name in many if name.startswith("images/")]) == 14


def test_another_seed_gives_other_fields() -> None:
    one, other = (dict(Nuclei(n=4, size=32, seed=seed).members()) for seed in (1, 2))
    assert not {one[name] for name in one if name.startswith("images")} & set(other.values())


def test_tiles_are_quarters_of_a_field_and_masks_its_nuclei() -> None:
    size, seed = 48, 4
    content = dict(Nuclei(n=12, size=size, seed=seed).members())
    for number in range(3):
        image_HWC, labels_HW = draw_field(number, 2 * size, seed)
        for tile, (top, left) in enumerate(((0, 0), (0, size), (size, 0), (size, size))):
            stem = f"field-{number:05d}/tile-{tile}"
            window = np.s_[top : top + size, left : left + size]
            np.testing.assert_array_equal(read_image(content[f"images/{stem}.png"], stem), image_HWC[window])
            merged_HW = np.zeros((size, size), int)
            for label in set(np.unique(labels_HW[window]).tolist()) - {0}:
                name = f"masks/{stem}/nucleus-{label:04d}.png"
                merged_HW += label * (read_mask(content[name], name, ChangeLog()) == 255)
            np.testing.assert_array_equal(merged_HW, labels_HW[window])


def test_fewer_tiles_of_a_field_are_more_groups_of_the_same_tiles() -> None:
    query = parse("synthetic://nuclei?n=6&size=32&seed=5&tiles=2")
    assert query.uri == "synthetic://nuclei?n=6&size=32&seed=5&tiles=2"
    kept = {name: content for name, content in query.members() if name.startswith("images/")}
    assert [name.split("/")[1:] for name in kept] == [
        [f"field-{field:05d}", f"tile-{tile}.png"] for field in range(3) for tile in range(2)
    ]
    every = dict(Nuclei(n=12, size=32, seed=5).members())
    assert {name: every[name] for name in kept} == kept


def test_every_tile_holds_a_nucleus_down_to_the_smallest_size() -> None:
    for size in (32, 64):
        for number in range(12):
            _, labels_HW = draw_field(number, 2 * size, 1)
            for rows in (slice(size), slice(size, None)):
                for columns in (slice(size), slice(size, None)):
                    assert labels_HW[rows, columns].any()


def test_two_fields_in_three_are_dark_and_grey_and_one_is_stained() -> None:
    for number in range(6):
        image_HWC, labels_HW = draw_field(number, 128, 2)
        inside = labels_HW > 0
        if number % 3 == 2:
            assert image_HWC.shape[-1] == 3
            red, blue = image_HWC[~inside][:, 0].mean(), image_HWC[~inside][:, 2].mean()
            assert red > blue  # pink
            assert image_HWC[inside].mean() < image_HWC[~inside].mean()
        else:
            assert image_HWC.shape[-1] == 1
            assert image_HWC[inside].mean() > image_HWC[~inside].mean()


def test_nuclei_touch_and_cross_the_borders_of_tiles() -> None:
    touching = crossing = 0
    for number in range(4):
        _, labels_HW = draw_field(number, 128, 3)
        neighbours = labels_HW[:, 1:] != labels_HW[:, :-1]
        touching += int((neighbours & (labels_HW[:, 1:] > 0) & (labels_HW[:, :-1] > 0)).sum())
        crossing += int(((labels_HW[:, 63] == labels_HW[:, 64]) & (labels_HW[:, 63] > 0)).sum())
    assert touching > 20
    assert crossing > 5
