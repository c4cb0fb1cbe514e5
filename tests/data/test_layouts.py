import re

import pytest

from segops.data.layouts.layout import find_examples, used_files
from segops.data.layouts.patterns import compile_pattern
from segops.data.layouts.unused import unused_files
from segops.errors import UserError
from segops.params.ingest import IngestParams
from tests.support.layout_examples import Example, Given, complaint, examples, ids


def test_pairs_share_a_stem_whatever_their_suffixes() -> None:
    found = examples(["images/b.tif", "images/a.JPG", "masks/a.png", "masks/b.bmp", "images/notes.txt"])
    assert found == [
        Example("a", "a", "images/a.JPG", ("masks/a.png",), "values"),
        Example("b", "b", "images/b.tif", ("masks/b.bmp",), "values"),
    ]
    assert found[0].mask_source == "masks/a.png"


def test_a_folder_of_masks_for_a_stem_holds_one_mask_an_object() -> None:
    names = ["images/a.png", "images/b.png", "masks/a/2.png", "masks/a/1.png", "masks/b/1.png"]
    assert examples(names) == [
        Example("a", "a", "images/a.png", ("masks/a/1.png", "masks/a/2.png"), "objects"),
        Example("b", "b", "images/b.png", ("masks/b/1.png",), "objects"),
    ]
    assert examples(names)[0].mask_source == "masks/a/"


def test_a_subfolder_is_part_of_the_id_and_names_the_group() -> None:
    names = ["images/rat1/x.png", "images/rat1/y.png", "images/z.png"]
    names += [name.replace("images", "masks") for name in names]
    assert [(one.image_id, one.group_id) for one in examples(names)] == [
        ("rat1_x", "rat1"),
        ("rat1_y", "rat1"),
        ("z", "z"),
    ]
    assert [one.group_id for one in examples(names, group_by="image")] == ["rat1_x", "rat1_y", "z"]


def test_objects_in_a_subfolder_are_found_and_a_file_goes_before_a_folder_of_that_name() -> None:
    found = examples(["images/f/t.png", "images/f.png", "masks/f.png", "masks/f/t/1.png"])
    assert [(one.image_id, one.masks) for one in found] == [("f", ("masks/f.png",)), ("f_t", ("masks/f/t/1.png",))]


def test_dots_and_odd_characters_leave_the_id() -> None:
    names = ["images/a.b c#1.ome.tif", "masks/a.b c#1.ome.png"]
    assert ids(names) == ["a_b_c_1_ome"]


def test_patterns_pair_by_what_their_wildcards_stand_for() -> None:
    names = [
        "sub-1/micr/sub-1_sample-2_SEM.png",
        "derivatives/labels/sub-1/micr/sub-1_sample-2_SEM_seg-axonmyelin-manual.png",
        "derivatives/labels/sub-1/micr/sub-1_sample-2_SEM_seg-axon-manual.png",
    ]
    found = examples(
        names, images="sub-*/micr/*_SEM.png", masks="derivatives/labels/sub-*/micr/*_SEM_seg-axonmyelin-manual.png"
    )
    assert found == [Example("1_sub-1_sample-2", "1", names[0], (names[1],), "values")]


def test_patterns_in_one_folder_tell_images_from_masks() -> None:
    names = ["x/a.png", "x/a_mask.png", "x/b.png", "x/b_mask.png"]
    found = examples(names, images="x/*.png", masks="x/*_mask.png")
    assert [(one.image_id, one.masks) for one in found] == [("a", ("x/a_mask.png",)), ("b", ("x/b_mask.png",))]


def test_patterns_whose_wildcards_differ_pair_by_stem() -> None:
    names = ["raw/site1/a.png", "raw/site2/b.png", "truth/a.png", "truth/b.png"]
    assert ids(names, images="raw/**/*.png", masks="truth/*.png") == ["a", "b"]


def test_a_folder_for_each_case() -> None:
    names = ["case1/image.png", "case1/mask.png", "case2/image.png", "case2/mask.png"]
    assert ids(names, images="**/image.png", masks="**/mask.png") == ["case1", "case2"]


def test_the_one_leading_folder_of_an_archive_may_be_left_out() -> None:
    assert ids(["set/images/a.png", "set/masks/a.png"]) == ["a"]
    assert ids(["set/images/a.png", "set/masks/a.png"], images="set/images", masks="set/masks") == ["a"]


@pytest.mark.parametrize(
    ("pattern", "name", "groups"),
    [
        ("a", "a/b/c.png", ("b/c.png",)),
        ("./a/", "a/c.png", ("c.png",)),
        ("a", "ab/c.png", None),
        (".", "c.png", ("c.png",)),
        ("a.b", "axb/c.png", None),
        ("*.png", "a/b.png", None),
        ("*/?[!0].png", "a/b1.png", ("a", "b", "1")),
        ("*/?[!0].png", "a/b0.png", None),
        ("**/x.png", "x.png", ("",)),
        ("**/x.png", "a/b/x.png", ("a/b/",)),
    ],
)
def test_patterns_match_whole_names(pattern: str, name: str, groups: tuple[str, ...] | None) -> None:
    match = compile_pattern(pattern).fullmatch(name)
    assert (match.groups() if match else None) == groups


def test_a_pattern_that_is_none_is_refused() -> None:
    assert "'[z-a].png' is not a glob pattern" in complaint(["images/a.png"], images="[z-a].png")


def test_dsb2018_finds_ids_at_any_depth() -> None:
    for root in ("", "stage1_train/", "a/b/"):
        names = [f"{root}i1/images/i1.png", f"{root}i1/masks/y.png", f"{root}i1/masks/x.png"]
        masks = (f"{root}i1/masks/x.png", f"{root}i1/masks/y.png")
        assert examples(names, layout="dsb2018") == [Example("i1", "i1", names[0], masks, "nonzero")]
    assert examples(names, layout="dsb2018")[0].mask_source == "a/b/i1/masks/"


def test_dsb2018_has_two_classes() -> None:
    assert "two classes, not 3" in complaint(
        ["i/images/i.png", "i/masks/m.png"], layout="dsb2018", mask_values={0: "b", 1: "c", 2: "d"}
    )


@pytest.mark.parametrize("layout", ["pairs", "dsb2018"])
def test_images_without_mask_and_masks_without_image_are_named_and_counted(layout: str) -> None:
    def names(kind: str, indices: range) -> list[str]:
        return [f"{kind}/{i}.png" if layout == "pairs" else f"{i}/{kind}/x.png" for i in indices]

    text = complaint([*names("images", range(9)), *names("masks", range(2, 10))], layout=layout)
    unmasked, orphan = names("images", range(2)), names("masks", range(9, 10))
    assert text.startswith(f"2 images without mask: {', '.join(unmasked)}; 1 mask without image: {orphan[0]}; add")
    text = complaint([*names("images", range(9)), *names("masks", range(1))], layout=layout)
    assert text.startswith(f"8 images without mask: {', '.join(names('images', range(1, 6)))}, ..;")


def test_different_names_never_get_one_id() -> None:
    keys = ["a.b", "a_b", "a#b", "WT+01", "WT#01", "\u2567\u2555", "\u255b\u2592"]
    paired = examples([f"{folder}/{key}.png" for folder in ("images", "masks") for key in keys])
    assert len({example.image_id for example in paired}) == len(keys)
    by_image = {example.image: example.image_id for example in paired}
    assert by_image["images/a_b.png"] == "a_b"  # a name that is an id already keeps it
    assert re.fullmatch(r"WT_01-[0-9a-f]{8}", by_image["images/WT#01.png"])


def test_different_folders_never_become_one_group() -> None:
    folders = ["WT+1", "WT#1"]
    names = [f"{kind}/{folder}/{n}.png" for kind in ("images", "masks") for folder in folders for n in range(2)]
    assert len({example.group_id for example in examples(names)}) == 2


def test_a_long_name_gets_a_short_id_of_its_own() -> None:
    names = [f"{folder}/{'x' * 240}{n}.png" for folder in ("images", "masks") for n in range(2)]
    ids = {example.image_id for example in examples(names)}
    assert len(ids) == 2
    assert all(len(image_id.encode()) <= 160 for image_id in ids)


def test_accents_pair_in_whatever_form_they_are_stored() -> None:
    composed, apart = "Pr\u00fcfung", "Pru\u0308fung"
    for image, mask in ((composed, apart), (apart, composed)):
        for images, masks in (("images", "masks"), ("images/*.png", "masks/*.png")):
            (example,) = examples([f"images/{image}.png", f"masks/{mask}.png"], images=images, masks=masks)
            assert example.image_id == composed


@pytest.mark.parametrize("pattern", ["*_img.png", "*_img.PNG", "**/*_img.png"])
def test_the_case_of_a_suffix_does_not_matter(pattern: str) -> None:
    names = ["a_img.png", "a_mask.png", "b_img.PNG", "b_mask.Png"]
    assert [example.image_id for example in examples(names, images=pattern, masks="*_mask.png")] == ["a", "b"]


def test_unpaired_images_and_masks_can_be_left_out() -> None:
    names = ["images/a.png", "images/b.png", "masks/b.png", "masks/c.png"]
    assert "set ingest.unpaired: skip" in complaint(names)
    assert [example.image_id for example in examples(names, unpaired="skip")] == ["b"]
    assert "ingest.unpaired: skip leaves no image with a mask" in complaint(
        ["images/a.png", "masks/b.png"], unpaired="skip"
    )
    bowl = ["x/images/x.png", "x/masks/1.png", "y/images/y.png", "z/masks/1.png"]
    assert [example.image_id for example in examples(bowl, layout="dsb2018", unpaired="skip")] == ["x"]


@pytest.mark.parametrize("exclude", [["old"], ["old/**"], ["*ld"], ["old/*/a.png", "old/*/b.PNG"]])
def test_excluded_files_are_as_if_they_were_not_there(exclude: list[str]) -> None:
    names = ["images/a.png", "masks/a.png", "old/images/a.png", "old/images/b.png"]
    (example,) = examples(names, images="**/images/*.png", masks="**/masks/*.png", exclude=exclude)
    assert example.image == "images/a.png"


def test_files_that_nobody_takes_are_counted_by_their_kind() -> None:
    names = ["images/a.png", "masks/a.png", "images/b.gif", "c.nii.gz", "d.nii", "notes.txt", "README", "e.PNG"]
    params = IngestParams(source="raw.zip", exclude=["*.gif"], unpaired="skip")
    unused = unused_files(names, used_files(find_examples(Given(dict.fromkeys(names, b"")), params), params))
    assert [(entry.kind, entry.images, entry.files, entry.named) for entry in unused] == [
        ("GIF in no pair", True, 1, ["images/b.gif"]),
        ("NIfTI, of volumes", True, 2, ["c.nii.gz", "d.nii"]),
        ("PNG in no pair", True, 1, ["e.PNG"]),
        (".txt", False, 1, ["notes.txt"]),
        ("without suffix", False, 1, ["README"]),
    ]


def test_two_images_of_one_folder_name_are_both_named() -> None:
    names = ["s1/i/images/i.png", "s1/i/masks/m.png", "s2/i/images/i.png", "s2/i/masks/m.png"]
    assert complaint(names, layout="dsb2018").startswith(
        "'s1/i/images/i.png' and 's2/i/images/i.png' are both 'i'; rename"
    )


def test_two_images_of_one_stem_and_two_masks_of_one_image_are_refused() -> None:
    assert "'images/a.png' and 'images/a.tif' are images of one stem" in complaint(
        ["images/a.png", "images/a.tif", "masks/a.png"]
    )
    assert "masks/a.png and masks/a.tif are both masks of images/a.png" in complaint(
        ["images/a.png", "masks/a.png", "masks/a.tif"]
    )
    assert "masks/a.png and masks/a/1.png are both masks of images/a.png" in complaint(
        ["images/a.png", "masks/a.png", "masks/a/1.png"]
    )
    assert "i/images: 2 images; layout dsb2018 has one image per id" in complaint(
        ["i/images/a.png", "i/images/b.png", "i/masks/m.png"], layout="dsb2018"
    )


@pytest.mark.parametrize("layout", ["pairs", "dsb2018"])
def test_a_layout_that_finds_nothing_shows_what_it_saw(layout: str) -> None:
    text = complaint([f"scans/{i}.png" for i in range(7)], layout=layout)
    assert text.endswith("raw.zip holds 7 files: scans/0.png, scans/1.png, scans/2.png, scans/3.png, scans/4.png, ..")


def test_an_empty_source_is_an_error() -> None:
    assert complaint([]).startswith("ingest.source: raw.zip holds no files")


NAMES = ["images/p1_a.png", "images/p1_b.png", "images/p2_a.png", "masks/p1_a.png", "masks/p1_b.png", "masks/p2_a.png"]


def test_a_pattern_groups_by_its_first_group() -> None:
    found = examples(NAMES, group_by="pattern", group_pattern=r"^(p\d)_")
    assert [one.group_id for one in found] == ["p1", "p1", "p2"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"^(q\d)_", "finds no group in the image id 'p1_a'"),
        (r"^(x)?p", "finds no group in the image id 'p1_a'"),
        (r"^p\d_", "has no group; put (..)"),
        (r"(p", "is not a regular expression"),
    ],
)
def test_a_group_pattern_that_does_not_fit_names_the_id(pattern: str, message: str) -> None:
    assert message in complaint(NAMES, group_by="pattern", group_pattern=pattern)


ABOUT = "file,patient,set,modality\nimages/a.png,p1,train,HE\nb.png,p1,Test,HE\nc,p2,validation,PAS\n"
OF_THREE = [f"{folder}/{stem}.png" for folder in ("images", "masks") for stem in "abc"]


def test_a_second_table_names_groups_modalities_and_subsets_of_any_layout() -> None:
    params = IngestParams(source="raw", about="about.csv")
    members = dict.fromkeys(OF_THREE, b"") | {"about.csv": ABOUT.encode()}
    paired = find_examples(Given(members), params)
    seen = [(example.group_id, example.pair.modality, example.pair.subset) for example in paired]
    assert seen == [("p1", "HE", "train"), ("p1", "HE", "test"), ("p2", "PAS", "val")]
    assert "about.csv" in used_files(paired, params)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,patient\na,p\nb,p\n", "about.csv: no row for 1 image: images/c.png; add the rows"),
        ("image,patient\na,p\na,q\n", "about.csv: row 3: image a has a row already; keep one"),
        (
            "image,weight\na,1\n",
            "about.csv: no column group, modality, subset, pixel_size_um; its columns are image, weight",
        ),
        ("patient\np\n", "about.csv: no column 'image'"),
        ("image,split\na,holdout\n", "about.csv: row 2: subset 'holdout' is none of train, val, test; correct it"),
        ("image,patient\na,\n", "about.csv: row 2: column 'group' is empty"),
        ("image,pixel_size_um\na,0.5\nb,0\nc,1\n", "about.csv: images/b.png: pixel_size_um '0' is no number of micro"),
    ],
)
def test_a_fault_of_the_second_table_is_a_line(table: str, message: str) -> None:
    members = dict.fromkeys(OF_THREE, b"") | {"about.csv": table.encode()}
    with pytest.raises(UserError) as error:
        find_examples(Given(members), IngestParams(source="raw", about="about.csv"))
    assert str(error.value).startswith(message)


def test_a_second_table_names_pixel_sizes() -> None:
    members = dict.fromkeys(OF_THREE, b"") | {"about.csv": b"image,pixel_size_um\na,0.5\nb,unknown\nc,2e-1\n"}
    paired = find_examples(Given(members), IngestParams(source="raw", about="about.csv"))
    assert [example.pair.pixel_size_um for example in paired] == [0.5, "unknown", 0.2]


def test_folders_say_the_subset() -> None:
    names = [f"{subset}/{kind}/{subset}.png" for subset in ("training", "test") for kind in ("images", "masks")]
    params = IngestParams(
        source="raw",
        images="**/images/*.png",
        masks="**/masks/*.png",
        subset_folders={"training": "train", "test": "test"},
    )
    paired = find_examples(Given(dict.fromkeys(names, b"")), params)
    assert [(example.pair.image, example.pair.subset) for example in paired] == [
        ("test/images/test.png", "test"), ("training/images/training.png", "train")
    ]  # fmt: skip
