"""The rules of a plan: what facts of a source become, by facts made for each rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from segops.data.layouts.layout import Example
from segops.data.layouts.pairing import Pair
from segops.planning import rules
from segops.planning.classes import Classes
from segops.planning.decisions import Budget, Decision, Facts, Plan, make_plan
from segops.planning.figures import best_seed
from segops.planning.groups import Grouping
from segops.planning.pairing import Pairing
from segops.planning.pixels import ImageFacts, Look, MaskFacts
from segops.planning.rules import RULES


def facts(
    *,
    size_hw: tuple[int, int] = (128, 128),
    sizes_hw: list[tuple[int, int]] | None = None,
    thickness_px: float = 10,
    count: int = 100,
    groups: int | None = None,
    shares: tuple[float, ...] = (0.8, 0.2),
    empty: float = 0.0,
    minutes: float = 10,
    memory_gib: float = 4,
    objects: bool = False,
    folders: tuple[str, ...] = ("all",),
    **image: Any,
) -> Facts:
    """Facts of a set of grey uint8 images with full range, but for what is given."""
    of_image = {"channels": 1, "dtype": "uint8", "grey": True, "low": 0.0, "high": 255.0, "top": 255.0, "spacing": None}
    sizes = sizes_hw or [size_hw] * count
    images = [ImageFacts(height, width, **{**of_image, **image}) for height, width in sizes]
    filled, bare = MaskFacts({0: 80, 255: 20}, 1.0, (thickness_px,) * 4), MaskFacts({0: 100}, 0.0, ())
    masks = [bare if number < empty * len(sizes) else filled for number in range(len(sizes))]
    ids = [f"i{number}" for number in range(len(sizes))]
    names = ["background", *(f"class_{number}" for number in range(1, len(shares)))]
    of_group = {image_id: f"g{number % (groups or count)}" for number, image_id in enumerate(ids)}
    return Facts(
        uri="cells",
        name="cells",
        sha256=None,
        pairing=Pairing({"layout": "pairs", "images": "images", "masks": "masks"}, [], "folders"),
        examples=[
            Example(image_id, image_id, Pair(image_id, f"{folders[number % len(folders)]}/a", ("b",), "values"))
            for number, image_id in enumerate(ids)
        ],
        look=Look(len(sizes), images, masks, ids),
        classes=Classes({"mask_values": dict(enumerate(names))}, "values", True, objects, shares),
        grouping=Grouping("image", of_group, "names"),
        budget=Budget(minutes, memory_gib, 2, 40.0),
    )


def planned(**given: Any) -> dict[str, Any]:
    """The values of a plan by param; a candidate's without `candidates.*.`."""
    plan = make_plan(facts(**given), RULES)
    return {param.removeprefix("candidates.*."): decision.value for param, decision in plan.decisions.items()}


@pytest.mark.parametrize(
    ("size_hw", "thickness_px", "resize", "size"),
    [
        ((128, 128), 10, "stretch", 128),
        ((100, 130), 10, "stretch", [128, 160]),
        ((256, 256), 4, "stretch", 256),
        ((500, 500), 4, "stretch", 512),  # thin, yet small enough as a whole
        ((1000, 1000), 4, "none", 256),  # thin and large: native patches
        ((1000, 1000), 16, "stretch", 512),  # shrunk by 2, objects stay 8 pixels wide
        ((2000, 3000), 400, "stretch", [192, 256]),  # large objects: shrunk to 256, no more
        ((24, 24), 8, "stretch", 32),
        ((2000, 200), 4, "none", 224),  # a patch as high as the image
    ],
)
def test_images_are_shrunk_as_far_as_thin_objects_allow(
    size_hw: tuple[int, int], thickness_px: float, resize: str, size: Any
) -> None:
    plan = planned(size_hw=size_hw, thickness_px=thickness_px)
    assert (plan["input.resize"], plan["input.size"]) == (resize, size)


def test_different_aspect_ratios_are_padded() -> None:
    assert planned(sizes_hw=[(100, 100), (100, 150)] * 20)["input.resize"] == "pad"
    assert planned(sizes_hw=[(100, 100), (100, 110)] * 20)["input.resize"] == "stretch"


def test_patches_cover_an_image_and_are_turned_only_when_square() -> None:
    plan = planned(size_hw=(1000, 1000), thickness_px=4, minutes=10_000)
    assert plan["recipe.patches_per_image"] == 16  # 1000 * 1000 / 256 / 256 = 15.3
    assert plan["recipe.augment"]["scale"] == 0.2
    assert "recipe.patches_per_image" not in planned()
    assert planned(size_hw=(100, 130))["recipe.augment"]["rot90"] is False


def test_few_minutes_take_fewer_patches_and_say_how_many_they_lack() -> None:
    plan = make_plan(facts(size_hw=(1000, 1000), thickness_px=4, minutes=60), RULES)
    assert 1 <= plan["candidates.*.recipe.patches_per_image"] < 16
    epochs = plan.decisions["candidates.*.recipe.epochs"]
    assert not epochs.sure
    assert "10 epochs take" in epochs.why


@pytest.mark.parametrize(
    ("groups", "shares", "sure"),
    [(100, 0.15, True), (60, 0.2, True), (45, 0.25, True), (40, 0.2, False), (5, 0.2, False)],
)
def test_groups_decide_the_fractions(groups: int, shares: float, sure: bool) -> None:
    plan = make_plan(facts(count=groups), RULES)
    assert plan["split.fractions"][1:] == [shares, shares]
    assert plan.decisions["split.fractions"].sure is sure
    assert ("candidates.*.cross_validation" in plan.decisions) is not sure


def test_the_seed_gives_validation_and_test_ten_groups_each() -> None:
    for groups in (45, 60, 80):
        _, (train, val, test) = best_seed(facts(count=groups), (0.5, 0.25, 0.25))
        assert min(val, test) >= 10
        assert train + val + test == groups


def test_a_single_group_leaves_no_subset_that_could_be_filled() -> None:
    seed, counts = best_seed(facts(count=6, groups=1), (0.6, 0.2, 0.2))
    assert sum(counts) == 1
    assert seed >= 0


@pytest.mark.parametrize(
    ("image", "clip"),
    [
        ({}, None),
        ({"high": 100.0}, {"percentiles": [0.5, 99.5]}),
        ({"dtype": "uint16", "high": 1000.0, "top": 4000.0}, {"percentiles": [0.5, 99.5]}),  # of 12 bits
        ({"dtype": "uint16", "high": 3000.0, "top": 4000.0}, None),
        ({"dtype": "float32", "low": -1000.0, "high": 900.0}, {"percentiles": [0.5, 99.5]}),
    ],
)
def test_bits_and_range_decide_the_clipping(image: dict[str, Any], clip: Any) -> None:
    plan = planned(**image)
    assert plan.get("input.clip") == clip
    assert plan["validate.dtypes"] == [image.get("dtype", "uint8")]


def test_colour_decides_the_channels() -> None:
    assert planned()["input.channels"] == 1
    assert planned(channels=3, grey=True)["input.channels"] == 1
    assert planned(channels=3, grey=False)["input.channels"] == 3
    assert planned(channels=5, grey=False)["input.channels"] == 5
    assert planned(channels=5, grey=False)["validate.channels"] == [5]


def test_epochs_grow_with_minutes_and_stop_at_a_limit() -> None:
    epochs = [planned(minutes=minutes)["recipe.epochs"] for minutes in (1, 2, 4, 100_000)]
    assert epochs == sorted(epochs)
    assert epochs[-1] == 150


def test_double_the_images_get_half_the_epochs() -> None:
    few, many = (planned(minutes=60, count=count, size_hw=(256, 256))["recipe.epochs"] for count in (100, 200))
    assert few == pytest.approx(2 * many, abs=2)


def test_a_small_budget_takes_the_narrower_networks() -> None:
    assert planned(minutes=1)["model"]["unet"]["base_filters"] == 16
    assert planned(minutes=1000)["model"]["unet"]["base_filters"] == 32


def test_memory_and_the_number_of_images_bound_the_batch() -> None:
    assert planned(minutes=100)["recipe.batch_size"] == 4  # 60 training images: 8 steps of at most 7
    assert planned(minutes=100, count=1000)["recipe.batch_size"] == 16
    assert planned(minutes=100, count=1000, memory_gib=0.5, size_hw=(512, 512))["recipe.batch_size"] == 4


def test_the_bias_is_the_logit_of_the_foreground() -> None:
    assert planned(shares=(0.8, 0.2))["recipe.output_bias"] == -1.4  # ln(0.2 / 0.8)
    assert planned(shares=(0.5, 0.25, 0.25))["recipe.output_bias"] == -0.7  # ln(0.25 / 0.5)


def test_empty_images_are_allowed_and_others_drawn_more_often() -> None:
    plan = planned(empty=0.5)
    assert plan["validate.allow_empty_masks"] is True
    assert plan["recipe.foreground_images"] == 0.33
    assert planned(empty=0.5, size_hw=(1000, 1000), thickness_px=4)["recipe.foreground_patches"] == 0.5
    assert "validate.allow_empty_masks" not in planned()


def test_limits_of_validation_are_lowered_where_the_data_needs_it() -> None:
    assert planned(count=7)["validate.min_images"] == 7
    assert planned(size_hw=(24, 40))["validate.min_size_px"] == 24
    assert "validate.min_images" not in planned()


def test_objects_are_cut_by_a_watershed() -> None:
    assert planned(objects=True)["inference.instances"] == {"method": "watershed", "seed_distance_px": 5}
    assert "inference.instances" not in planned()


def test_the_datas_own_subsets_are_kept_and_asked_about() -> None:
    plan = make_plan(facts(folders=("Training", "test")), RULES)
    assert plan["ingest.subset_folders"] == {"Training": "train", "test": "test"}
    assert plan["split.protocol"] == "grouped"
    assert not plan.decisions["split.protocol"].sure
    assert "ingest.subset_folders" not in make_plan(facts(folders=("train", "val")), RULES).decisions


def test_a_candidate_that_trains_nothing_stands_beside_the_networks_where_there_is_one_class() -> None:
    otsu = make_plan(facts(objects=True, channels=3, grey=False, high=50.0), RULES)["candidates.otsu"]
    assert otsu["model"] == {"architecture": "intensity"}
    assert otsu["input"] == {"resize": "none", "channels": 1, "clip": {"percentiles": [0.5, 99.5]}}
    instances = {"method": "watershed", "seed_distance_px": 5}
    assert otsu["inference"] == {"postprocess": {"threshold": "otsu"}, "instances": instances}
    assert make_plan(facts(channels=5, grey=False), RULES)["candidates.otsu"]["input"]["channels"] == 5
    assert "candidates.otsu" not in make_plan(facts(shares=(0.8, 0.1, 0.1)), RULES).decisions


def test_a_person_is_asked_about_doubts_alone_and_later_rules_see_the_answer() -> None:
    asked: list[str] = []

    def ask(decision: Decision) -> Any:
        asked.append(decision.param)
        return [0.8, 0.1, 0.1] if decision.param == "split.fractions" else decision.value

    plan = make_plan(facts(count=20), RULES, ask)
    assert asked == ["ingest.licence", "split.fractions", "candidates.*.cross_validation"]
    assert plan.decisions["split.fractions"].why == "as you said"
    assert plan["split.seed"] == best_seed(facts(count=20), (0.8, 0.1, 0.1))[0]


def test_every_rule_says_what_it_decides() -> None:
    for rule in RULES:
        assert rule.__doc__ is not None
        assert rule.__doc__.startswith("`")
        assert ": " in rule.__doc__


def test_a_rule_of_ones_own_goes_into_the_plan() -> None:
    def longer(_: Facts, plan: Plan) -> Iterator[Decision]:
        yield Decision("candidates.*.recipe.epochs", 2 * plan["candidates.*.recipe.epochs"], "twice")

    ours = make_plan(facts(), RULES)["candidates.*.recipe.epochs"]
    assert make_plan(facts(), [*rules.RULES, longer])["candidates.*.recipe.epochs"] == 2 * ours
