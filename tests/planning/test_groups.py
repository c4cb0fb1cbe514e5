"""Which images belong together, by their names, their layout and their edges."""

from __future__ import annotations

import pytest

from segops.planning.groups import propose_groups


@pytest.mark.parametrize(
    ("ids", "pattern", "groups"),
    [
        (["patient1_a", "patient1_b", "patient2_a"], r"^(patient\d+)", {"patient1", "patient2"}),
        (["x_slide_7_1", "x_slide_7_2", "x_slide_9_1"], r"(?:^|[_-])(slide[_-]?[A-Za-z]*\d+)", {"slide_7", "slide_9"}),
        (
            ["TCGA_CS_4941_1", "TCGA_CS_4941_2", "TCGA_DU_5849_1"],
            r"^(TCGA[_-][A-Z0-9]{2}[_-][A-Z0-9]{4})",
            {"TCGA_CS_4941", "TCGA_DU_5849"},
        ),
    ],
)
def test_the_word_of_an_owner_groups_surely(ids: list[str], pattern: str, groups: set[str]) -> None:
    proposal = propose_groups(ids, None, {})
    assert (proposal.group_by, proposal.pattern, proposal.sure) == ("pattern", pattern, True)
    assert set(proposal.groups.values()) == groups


@pytest.mark.parametrize(
    ("ids", "groups"),
    [
        (["a_slice1", "a_slice2", "b_slice1"], {"a", "b"}),
        (["a_tile_1_2", "a_tile_1_3", "b_tile_1_2"], {"a", "b"}),
        (["roi_x0_y1", "roi_x1_y1", "rod_x0_y0"], {"roi", "rod"}),
        (["Image_01L", "Image_01R", "Image_02L", "Image_02R"], {"Image_01", "Image_02"}),
    ],
)
def test_slices_tiles_and_sides_group(ids: list[str], groups: set[str]) -> None:
    proposal = propose_groups(ids, None, {})
    assert proposal.group_by == "pattern"
    assert proposal.sure
    assert set(proposal.groups.values()) == groups


def test_a_counter_after_shared_beginnings_is_a_doubt() -> None:
    ids = [f"{name}_{number}" for name in ("anna", "bert", "carl") for number in (1, 2)]
    proposal = propose_groups(ids, None, {})
    assert proposal.group_by == "pattern"
    assert not proposal.sure
    assert proposal.count == 3
    assert "3 groups: anna (2), bert (2), carl (2)" in proposal.why


def test_a_single_sequence_is_said_and_grouped_by_nothing() -> None:
    for ids in (["brain_slice1", "brain_slice2", "brain_slice3"], ["img1", "img2", "img3"]):
        proposal = propose_groups(ids, None, {})
        assert proposal.group_by == "image"
        assert not proposal.sure
        assert "slices" in proposal.why


def test_names_that_say_nothing_are_independent_with_a_doubt() -> None:
    proposal = propose_groups(["kq", "zr", "vm"], None, {})
    assert (proposal.group_by, proposal.sure, proposal.count) == ("image", False, 3)


def test_a_number_of_its_own_for_each_owner_is_no_doubt_but_a_letter_is() -> None:
    assert propose_groups(["case_1", "case_2", "case_3"], None, {}).sure
    assert not propose_groups(["p1", "p2", "p3"], None, {}).sure
    assert propose_groups(["p1_a", "p1_b", "p2_a"], None, {}).pattern == r"^(p\d+)"


def test_folders_group_unless_they_are_the_subsets_of_a_split() -> None:
    ids = ["q", "r", "s", "u"]
    assert propose_groups(ids, {"q": "m1", "r": "m2", "s": "m3", "u": "m3"}, {}).group_by == "layout"
    assert propose_groups(ids, {"q": "train", "r": "val", "s": "test", "u": "test"}, {}).group_by == "image"
    assert propose_groups(ids, {"q": "m1", "r": "m2", "s": "m3", "u": "m4"}, {}).group_by == "image"  # one each


def test_tiles_of_fields_group_by_their_edges_when_there_are_several() -> None:
    ids = [f"{letter}q" for letter in "abcdefgh"]
    fields = {image_id: ("aq" if image_id < "e" else image_id) for image_id in ids}
    proposal = propose_groups(ids, None, fields)
    assert proposal.group_by == "fields"
    assert "4 of 8 images" in proposal.why
    one_pair = {image_id: ("aq" if image_id < "c" else image_id) for image_id in ids}
    assert propose_groups(ids, None, one_pair).group_by == "image"
