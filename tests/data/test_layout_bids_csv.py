"""The layouts `bids` and `csv`."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.layout_examples import Example, complaint, examples

RAT1 = "sub-rat1/micr/sub-rat1_sample-data1_SEM"
RAT2 = "sub-rat2/ses-1/micr/sub-rat2_ses-1_sample-a_TEM"
KIND = "seg-axonmyelin-manual"
BIDS = [
    "participants.tsv",
    f"{RAT1}.png",
    f"{RAT1}.json",
    f"{RAT2}.tif",
    f"derivatives/labels/{RAT1}_{KIND}.png",
    f"derivatives/labels/{RAT1}_seg-axon-manual.png",
    f"derivatives/labels/{RAT2}_{KIND}.png",
]


@pytest.mark.parametrize("root", ["", "data_sem-1.0/"])
def test_bids_pairs_an_image_with_its_derivative(root: str) -> None:
    names = [root + name for name in BIDS]
    found = examples(names, layout="bids", masks=KIND)
    masks = [f"{root}derivatives/labels/{stem}_{KIND}.png" for stem in (RAT1, RAT2)]
    assert found == [
        Example("sub-rat1_sample-data1_SEM", "sub-rat1", f"{root}{RAT1}.png", (masks[0],), "values", "SEM"),
        Example("sub-rat2_ses-1_sample-a_TEM", "sub-rat2", f"{root}{RAT2}.tif", (masks[1],), "values", "TEM"),
    ]


def test_bids_groups_by_subject_only_where_the_layout_is_asked() -> None:
    one = examples(BIDS, layout="bids", masks=KIND, group_by="image")
    assert [example.group_id for example in one] == [example.image_id for example in one]


def test_bids_names_the_derivatives_that_there_are() -> None:
    text = complaint(BIDS, layout="bids", masks="seg-nerve")
    assert text == (
        "ingest.masks: no derivative of an image is called 'seg-nerve'; there are: seg-axon-manual, "
        "seg-axonmyelin-manual"
    )


def test_bids_names_an_image_without_the_derivative() -> None:
    text = complaint(BIDS, layout="bids", masks="seg-axon-manual")
    assert text.startswith(f"1 image without mask: {RAT2}.tif; ")


def test_bids_refuses_two_files_of_one_name() -> None:
    twice = [*BIDS, f"derivatives/other/{RAT1}_{KIND}.png"]
    assert "are both 'sub-rat1_sample-data1_SEM'; keep one" in complaint(twice, layout="bids", masks=KIND)
    twice = [*BIDS, f"{RAT1}.tif"]
    assert "are both 'sub-rat1_sample-data1_SEM'; keep one" in complaint(twice, layout="bids", masks=KIND)


def test_bids_without_microscopy_shows_what_it_saw() -> None:
    text = complaint(["sub-1/anat/sub-1_T1w.png"], layout="bids", masks=KIND)
    assert "layout bids finds no sub-*/micr/*_SEM.png" in text
    assert "raw.zip holds 1 file: sub-1/anat/sub-1_T1w.png" in text


FILES = ["scans/a.png", "scans/b.tif", "truth/a.png", "truth/b/1.png", "truth/b/2.png", "table.csv"]
TABLE = "image,mask,group,modality,note\nscans/a.png,truth/a.png,p1,PAS,x\nscans/b.tif,truth/b,p2,HE,\n"


def test_a_table_names_image_mask_group_and_modality() -> None:
    assert examples(FILES, TABLE, layout="csv") == [
        Example("scans_a", "p1", "scans/a.png", ("truth/a.png",), "values", "PAS"),
        Example("scans_b", "p2", "scans/b.tif", ("truth/b/1.png", "truth/b/2.png"), "objects", "HE"),
    ]


def test_paths_are_relative_to_the_table_which_may_stand_below_one_folder() -> None:
    names = [f"set/{name}" for name in FILES]
    found = examples(names, TABLE.replace("scans/a.png", "./scans/a.png"), layout="csv")
    assert [example.image for example in found] == ["set/scans/a.png", "set/scans/b.tif"]


def test_a_table_may_be_plain_and_its_ids_its_own() -> None:
    names = ["a.png", "b.png", "list.tsv"]
    text = "\ufeffimage_id\tmask\timage\nfirst\tb.png\ta.png\n\n"
    found = examples(names, text, layout="csv", table="list.tsv")
    assert found == [Example("first", "first", "a.png", ("b.png",), "values", None)]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (b"", "table.csv: empty; its first row names the columns"),
        (b"\xff\xfe", "table.csv: not UTF-8 text (byte 0)"),
        ("picture,mask\n", "table.csv: no column 'image'; its columns are picture, mask"),
        ("images,mask\n", "table.csv: no column 'image'; did you mean it by 'images'?"),
        ("image,mask,mask\n", "table.csv: column 'mask' is there twice"),
        ("image,mask\n", "table.csv: a header and no row"),
        ("image,mask\nscans/a.png\n", "table.csv: row 2: 1 cells, the header has 2"),
        ("image,mask\nscans/a.png,\n", "table.csv: row 2: column 'mask' is empty"),
        ("image,mask\nscans/z.png,truth/a.png\n", "table.csv: row 2: image 'scans/z.png' is not in the source"),
        ("image,mask\nscans/a.png,truth/z.png\n", "table.csv: row 2: mask 'truth/z.png' is not in the source"),
        ("image,mask\ntable.csv,truth/a.png\n", "table.csv: row 2: image 'table.csv' is not a supported image"),
        ("image,mask\n" + 2 * "scans/a.png,truth/a.png\n", "table.csv: row 3: image scans/a.png is in row 2"),
        ('image,mask\n"scans/a.png,truth/a.png\n', "table.csv: row 2: not a CSV line"),
        ("image,mask,modality\nscans/a.png,truth/a.png,H & E\n", "table.csv: row 2: modality 'H & E' is no word"),
    ],
)
def test_a_bad_table_names_its_row_and_column(table: str | bytes, expected: str) -> None:
    assert complaint(FILES, table, layout="csv").startswith(expected)


def test_a_missing_table_shows_what_there_is() -> None:
    assert complaint(["a.png"], layout="csv").startswith("ingest.table: no member 'table.csv'; raw.zip holds 1 file")


words = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="/\\"), min_size=1)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=6, unique_by=lambda pair: pair[0]))
def test_any_names_that_a_csv_writer_quotes_come_back(pairs: list[tuple[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image_id", "image", "mask", "group"])
    rows = [(f"id{number}", f"i/{name}.png", "m.png", group) for number, (name, group) in enumerate(pairs)]
    writer.writerows(rows)
    names = ["table.csv", "m.png", *(image for _, image, _, _ in rows)]
    found = examples(names, text.getvalue(), layout="csv", group_by="image")
    assert [(one.image_id, one.image) for one in found] == [(image_id, image) for image_id, image, _, _ in rows]
