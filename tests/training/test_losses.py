"""Losses against values worked out by hand. The file imports MONAI, which takes seconds, once."""

from __future__ import annotations

from math import exp, log, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy import ndimage

from segops.errors import UserError
from segops.params.loss import LossParams
from segops.training.batches.object_maps import border_map
from segops.training.losses import Loss, class_weights, make_loss, predicted_classes
from segops.training.signed_distance import signed_distances

LOG_3 = log(3)  # sigmoid(log 3) = 3/4
MASK_BHW = torch.tensor([[[1, 0], [0, 0]], [[2, 0], [0, 0]]], dtype=torch.uint8)  # classes 1 and 2 are foreground
LOGITS_BKHW = torch.tensor([[[[LOG_3, -LOG_3], [-LOG_3, -LOG_3]]], [[[-LOG_3, -LOG_3], [-LOG_3, -LOG_3]]]])
# p of the right class: 3/4 everywhere but at the second image's foreground, where it is 1/4.
SURE, UNSURE = -log(3 / 4), -log(1 / 4)
BCE = (7 * SURE + UNSURE) / 8
# First image: p = 3/4 at the disc, 1/4 at three others: Dice 2 * 0.75 / (1 + 1.5). Second: 2 * 0.25 / (1 + 1).
DICE_LOSS = ((1 - 1.5 / 2.5) + (1 - 0.5 / 2)) / 2
FOCAL = (7 * SURE / 16 + UNSURE * 9 / 16) / 8
# Background of 3 pixels weighs 1/9: 2 (0.75 + 2.25/9) / (2.5 + 5.5/9), then 2 (0.25 + 2.25/9) / (2 + 6/9).
GENERALIZED = ((1 - 2 / (2.5 + 5.5 / 9)) + (1 - 1 / (2 + 6 / 9))) / 2
# The same with a background of 1/2: 2 (0.75 + 1.5/9) / (2.5 + 5/9), then 2 (0.25 + 1.5/9) / (2 + 5/9).
GENERALIZED_HALF = ((1 - 2 * (0.75 + 1.5 / 9) / (2.5 + 5 / 9)) + (1 - 2 * (0.25 + 1.5 / 9) / (2 + 5 / 9))) / 2
# True and false positives and false negatives: 0.75, 0.75, 0.25 and 0.25, 0.75, 0.75.
TVERSKY = ((1 - 0.75 / (0.75 + 0.3 * 0.75 + 0.7 * 0.25)) + (1 - 0.25 / (0.25 + 0.3 * 0.75 + 0.7 * 0.75))) / 2


def params(**given: Any) -> LossParams:
    adapter: TypeAdapter[LossParams] = TypeAdapter(LossParams)
    return adapter.validate_python(given)


def made(outputs: int = 1, *, sigmoid: bool | None = None, **given: Any) -> Loss:
    loss = params(**given)
    weights_C = class_weights(loss, max(2, outputs), lambda classes: np.bincount(MASK_BHW.flatten(), minlength=classes))
    return make_loss(loss, weights_C, sigmoid=outputs == 1 if sigmoid is None else sigmoid)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ({"name": "bce"}, BCE),
        ({"name": "bce", "class_weights": [1, 3]}, (6 * SURE + 3 * SURE + 3 * UNSURE) / 8),
        ({"name": "bce", "class_weights": [2, 0.5]}, (12 * SURE + 0.5 * SURE + 0.5 * UNSURE) / 8),
        ({"name": "bce", "label_smoothing": 0.2}, (7 * (0.9 * SURE + 0.1 * UNSURE) + 0.9 * UNSURE + 0.1 * SURE) / 8),
        ({"name": "dice"}, DICE_LOSS),
        ({"name": "dice", "smooth": 1.0}, ((1 - 2.5 / 3.5) + (1 - 1.5 / 3)) / 2),
        # Squared probabilities sum to 9/16 + 3/16 and to 4/16.
        ({"name": "dice", "squared": True}, ((1 - 1.5 / 1.75) + (1 - 0.5 / 1.25)) / 2),
        # Over the batch: twice the overlap is 1.5 + 0.5, probabilities and truth sum to 2.5 and 2.
        ({"name": "dice", "over": "batch"}, 1 - 2 / 4.5),
        ({"name": "bce_dice", "over": "batch"}, BCE + 0.5 * (1 - 2 / 4.5)),
        ({"name": "dice_focal", "over": "batch"}, FOCAL + 1 - 2 / 4.5),
        ({"name": "tversky", "alpha": 0.5, "beta": 0.5, "over": "batch"}, 1 - 2 / 4.5),
        ({"name": "bce_dice"}, BCE + 0.5 * DICE_LOSS),
        ({"name": "bce_dice", "bce_weight": 0.3, "dice_weight": 0.7}, 0.3 * BCE + 0.7 * DICE_LOSS),
        ({"name": "bce_dice", "dice_weight": 0.0}, BCE),
        ({"name": "generalized_dice"}, GENERALIZED),
        ({"name": "focal"}, FOCAL),
        ({"name": "focal", "gamma": 0.0}, BCE),
        (
            {"name": "focal", "class_weights": [0.75, 0.25]},
            (0.75 * 6 * SURE / 16 + 0.25 * (SURE / 16 + UNSURE * 9 / 16)) / 8,
        ),
        ({"name": "dice_focal", "focal_weight": 2.0}, 2 * FOCAL + DICE_LOSS),
        ({"name": "tversky"}, TVERSKY),
        ({"name": "tversky", "alpha": 0.5, "beta": 0.5}, DICE_LOSS),
    ],
)
def test_foreground_losses(loss: dict[str, Any], expected: float) -> None:
    assert made(**loss)(LOGITS_BKHW, MASK_BHW)[0].item() == pytest.approx(expected, abs=1e-5)


def test_the_boundary_loss_is_probability_times_signed_distance() -> None:
    """A row of 5 pixels, class 1 in the middle three: distances 1, 0, -1, 0, 1, with p = 1/4, 3/4, 3/4, 3/4, 1/4."""
    mask_BHW = torch.tensor([[[0, 1, 1, 1, 0]]], dtype=torch.uint8)
    assert signed_distances(mask_BHW[:, None], mask_BHW >= 0).tolist() == [[[[1, 0, -1, 0, 1]]]]
    logits_BKHW = torch.where(mask_BHW[:, None] > 0, LOG_3, -LOG_3)
    loss = made(name="dice_boundary", boundary_weight=0.5, dice_weight=2.0)
    expected = {"dice": 1 - 2 * 2.25 / (3 + 2.75), "boundary": (0.25 - 0.75 + 0.25) / 5}
    total = 2 * expected["dice"] + 0.5 * expected["boundary"]
    assert loss(logits_BKHW, mask_BHW).tolist() == pytest.approx([total, *expected.values()], abs=1e-5)
    # Softmax with a class that the image lacks: it has no distances, and halves the mean over both.
    three_BKHW = torch.cat([-logits_BKHW, logits_BKHW, torch.full_like(logits_BKHW, -30)], dim=1)
    p = torch.tensor([1 / 10, 9 / 10, 9 / 10, 9 / 10, 1 / 10])
    distances = torch.tensor([1.0, 0, -1, 0, 1])
    value = made(outputs=3, name="dice_boundary")(three_BKHW, mask_BHW)[2].item()
    assert value == pytest.approx(float((p * distances).sum()) / 10, abs=1e-6)


def test_signed_distances_of_a_volume_are_in_its_smallest_step_and_none_where_there_is_no_border() -> None:
    mask_BDHW = torch.zeros(2, 3, 1, 5)
    mask_BDHW[0, 1, 0, 2] = 1  # slices are 3 apart, columns 1: across a corner sqrt(9 + 1)
    far = sqrt(10), 3, sqrt(10)
    expected = [[[sqrt(13), *far, sqrt(13)]], [[2, 1, 0, 1, 2]], [[sqrt(13), *far, sqrt(13)]]]
    distances = signed_distances(mask_BDHW[:, None], mask_BDHW >= 0, (6.0, 2.0, 2.0))
    torch.testing.assert_close(distances[0, 0], torch.tensor(expected))
    assert not distances[1].any()
    full_BHW = torch.ones(1, 4, 4)
    assert not signed_distances(full_BHW[:, None], full_BHW > 0).any()


def test_inverse_frequency_weighs_classes_alike() -> None:
    # 6 of 8 pixels are background: 8 / (2 * 6) and 8 / (2 * 2).
    mask_BHW = MASK_BHW.clamp(max=1)
    loss = params(name="bce", class_weights="inverse_frequency")
    weights_C = class_weights(loss, 2, lambda _: np.array([6, 2]))
    assert weights_C is not None
    assert weights_C.tolist() == pytest.approx([2 / 3, 2])
    value = make_loss(loss, weights_C, sigmoid=True)(LOGITS_BKHW, mask_BHW)[0].item()
    assert value == pytest.approx((2 / 3 * 6 * SURE + 2 * (SURE + UNSURE)) / 8)


@pytest.mark.parametrize(
    ("given", "classes", "expected"),
    [
        ([1.0, 2.0, 3.0], 2, "lists 3 weights, the data has 2 classes"),
        ("inverse_frequency", 4, "no training pixel is of class 3"),
    ],
)
def test_class_weights_that_do_not_fit_the_data_are_one_line(given: Any, classes: int, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        class_weights(params(name="bce", class_weights=given), classes, lambda n: np.array([5, 2, 1, 0])[:n])


def test_a_loss_without_parts_left_is_refused() -> None:
    for name, weights in {
        "bce_dice": {"bce_weight": 0, "dice_weight": 0},
        "dice_focal": {"focal_weight": 0, "dice_weight": 0},
        "tversky": {"alpha": 0, "beta": 0},
    }.items():
        with pytest.raises(ValueError, match="are both 0"):
            params(name=name, **weights)


def test_parts_are_given_beside_the_loss_without_their_weights() -> None:
    both = made(name="bce_dice", bce_weight=0.25, dice_weight=0.75)
    assert both.parts == ("bce", "dice")
    expected = [0.25 * BCE + 0.75 * DICE_LOSS, BCE, DICE_LOSS]
    assert both(LOGITS_BKHW, MASK_BHW).tolist() == pytest.approx(expected, abs=1e-5)
    assert made(name="dice_focal").parts == ("focal", "dice")
    one = made(name="bce")
    assert one.parts == ()
    assert one(LOGITS_BKHW, MASK_BHW).shape == (1,)


def test_several_classes_use_softmax() -> None:
    logits_BKHW = torch.zeros(2, 3, 2, 2)  # each class 1/3 everywhere
    cross_entropy = log(3)
    # By class, over 4 pixels: 2 * n / 3 / (n + 4 / 3) for the n pixels that have it; absent: smoothed to 1e-5 / (4 / 3)
    of_three, of_one = 2 * 3 / 3 / (3 + 4 / 3), 2 * 1 / 3 / (1 + 4 / 3)
    dice_loss = 1 - (of_three + of_one + 0) / 3
    # Weights 1/9, 1 and, for the absent class, the largest of the others: 1.
    generalized = 1 - 2 * (1 / 9 + 1 / 3) / ((3 + 4 / 3) / 9 + (1 + 4 / 3) + 4 / 3)
    tversky = 1 - (1 / (1 + 0.3 / 3 + 0.7 * 2) + (1 / 3) / (1 / 3 + 0.3 * 1 + 0.7 * 2 / 3) + 0) / 3
    cases: list[tuple[dict[str, Any], float]] = [
        ({"name": "bce"}, cross_entropy),
        ({"name": "bce", "class_weights": [1, 2, 4]}, cross_entropy * (6 * 1 + 2 + 4) / 8),
        ({"name": "bce", "label_smoothing": 0.3}, cross_entropy),
        ({"name": "focal", "gamma": 1.0}, cross_entropy * 2 / 3),
        ({"name": "dice"}, dice_loss),
        ({"name": "bce_dice", "dice_weight": 2.0}, cross_entropy + 2 * dice_loss),
        ({"name": "generalized_dice"}, generalized),
        ({"name": "tversky"}, tversky),
    ]
    for loss, expected in cases:
        value = made(3, **loss)(logits_BKHW, MASK_BHW)[0].item()
        assert value == pytest.approx(expected, abs=1e-4), loss


def test_sigmoid_channels_are_judged_against_one_hot_masks_and_averaged() -> None:
    mask_BHW, undecided_B1HW = MASK_BHW.clamp(max=1), torch.zeros_like(LOGITS_BKHW)
    opposite_BKHW = torch.cat([-LOGITS_BKHW, LOGITS_BKHW], dim=1)  # background is 1 - foreground
    # Background: p = 1/4 at the first image's disc and 3/4 at three others, then 3/4 everywhere; three pixels are true.
    background = ((1 - 4.5 / (2.5 + 3)) + (1 - 4.5 / (3 + 3))) / 2
    half = torch.cat([undecided_B1HW, LOGITS_BKHW], dim=1)  # background is 1/2 everywhere: Dice 2 * 1.5 / (2 + 3)
    undecided = 1 - 3 / 5
    cases: list[tuple[dict[str, Any], float, float]] = [
        ({"name": "bce"}, BCE, (BCE + log(2)) / 2),
        (
            {"name": "bce", "class_weights": [1, 3]},
            (6 * SURE + 3 * SURE + 3 * UNSURE) / 8,
            ((6 * SURE + 3 * SURE + 3 * UNSURE) / 8 + 12 / 8 * log(2)) / 2,
        ),
        (
            {"name": "bce", "label_smoothing": 0.2},
            (7 * (0.9 * SURE + 0.1 * UNSURE) + 0.9 * UNSURE + 0.1 * SURE) / 8,
            ((7 * (0.9 * SURE + 0.1 * UNSURE) + 0.9 * UNSURE + 0.1 * SURE) / 8 + log(2)) / 2,
        ),
        ({"name": "focal"}, FOCAL, (FOCAL + log(2) / 4) / 2),
        ({"name": "dice"}, (DICE_LOSS + background) / 2, (DICE_LOSS + undecided) / 2),
        ({"name": "tversky", "alpha": 0.5, "beta": 0.5}, (DICE_LOSS + background) / 2, (DICE_LOSS + undecided) / 2),
        ({"name": "generalized_dice"}, GENERALIZED, GENERALIZED_HALF),
        (
            {"name": "bce_dice", "bce_weight": 0.5, "dice_weight": 0.5},
            (BCE + (DICE_LOSS + background) / 2) / 2,
            ((BCE + log(2)) / 2 + (DICE_LOSS + undecided) / 2) / 2,
        ),
    ]
    for loss, of_opposite, of_half in cases:
        both = made(2, sigmoid=True, **loss)
        assert both(opposite_BKHW, mask_BHW)[0].item() == pytest.approx(of_opposite, abs=1e-5), loss
        assert both(half, mask_BHW)[0].item() == pytest.approx(of_half, abs=1e-5), loss


ALL = (
    "bce", "dice", "bce_dice", "generalized_dice", "focal", "dice_focal", "tversky", "boundary_bce",
)  # fmt: skip


@pytest.mark.parametrize(("outputs", "sigmoid"), [(1, True), (3, False), (3, True)])
@pytest.mark.parametrize("name", ALL)
def test_an_empty_mask_predicted_empty_costs_nothing_and_every_gradient_is_finite(
    name: str, outputs: int, sigmoid: bool
) -> None:
    loss, mask_BHW = made(outputs, sigmoid=sigmoid, name=name), torch.zeros(1, 4, 4, dtype=torch.uint8)
    logits_BKHW = torch.full((1, outputs, 4, 4), -40.0)
    logits_BKHW[:, 0] = -40.0 if outputs == 1 else 40.0
    # Dice of an absent class is its smoothing over what is left of its probability: 1e-5 / (16 * e^-40 + 1e-5).
    assert loss(logits_BKHW, mask_BHW, mask_BHW)[0].item() == pytest.approx(0, abs=1e-5)
    for scale in (0.0, 1.0, 100.0):
        shaken = (torch.randn(1, outputs, 4, 4, generator=torch.Generator().manual_seed(0)) * scale).requires_grad_()
        for truth in (mask_BHW, (mask_BHW + 1), torch.eye(4, dtype=torch.uint8)[None]):
            (gradient,) = torch.autograd.grad(
                made(outputs, sigmoid=sigmoid, name=name)(shaken, truth, truth)[0], shaken
            )
            assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(("outputs", "sigmoid"), [(1, True), (3, False), (3, True)])
@pytest.mark.parametrize("name", ALL)
def test_descending_a_loss_ends_at_the_truth(name: str, outputs: int, sigmoid: bool) -> None:
    truth_BHW = torch.zeros(2, 12, 12, dtype=torch.uint8)
    truth_BHW[0, 2:7, 3:8], truth_BHW[1, 4:6, 1:11] = 1, min(2, outputs)
    logits_BKHW = torch.zeros(2, outputs, 12, 12, requires_grad=True)
    loss, optimizer = made(outputs, sigmoid=sigmoid, name=name), torch.optim.Adam([logits_BKHW], lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        loss(logits_BKHW, truth_BHW, torch.ones(2, 12, 12))[0].backward()
        optimizer.step()
    expected_BHW = (truth_BHW > 0).to(torch.uint8) if outputs == 1 else truth_BHW
    assert torch.equal(predicted_classes(logits_BKHW.detach()).to(torch.uint8), expected_BHW)


def test_the_border_map_raises_the_weight_of_pixels_between_objects() -> None:
    border_BHW = torch.zeros(2, 2, 2)
    border_BHW[0, 0, 1] = 0.5
    plain, weighted = made(name="boundary_bce", w0=0.0), made(name="boundary_bce", w0=10.0, class_weights=[1, 3])
    assert plain(LOGITS_BKHW, MASK_BHW, border_BHW)[0].item() == pytest.approx(BCE)
    expected = (5 * SURE + (1 + 10 * 0.5) * SURE + 3 * SURE + 3 * UNSURE) / 8
    assert weighted(LOGITS_BKHW, MASK_BHW, border_BHW)[0].item() == pytest.approx(expected)


def test_the_border_map_is_equation_2_between_objects_and_nothing_inside_them() -> None:
    mask_HW = np.zeros((9, 31), np.uint8)
    mask_HW[4, 5] = mask_HW[4, 15] = 1
    mask_HW[3:6, 27] = 1
    border_HW = border_map(mask_HW, sigma_px=5.0)
    assert border_HW[4, 10] == pytest.approx(exp(-(10**2) / 50), abs=1e-3)  # d1 = d2 = 5
    assert border_HW[4, 7] == pytest.approx(exp(-(10**2) / 50), abs=1e-3)  # 2 + 8
    assert border_HW[0, 10] == pytest.approx(exp(-((2 * sqrt(41)) ** 2) / 50), abs=1e-3)
    assert border_HW[4, 18] == pytest.approx(exp(-(12**2) / 50), abs=1e-3)  # 3 + 9; the third object is farther
    assert not border_HW[mask_HW > 0].any()
    alone_HW = np.where(np.arange(31) < 10, mask_HW, 0).astype(np.uint8)
    assert not border_map(alone_HW, 5.0).any()


def test_touching_objects_of_two_classes_are_two_objects() -> None:
    mask_HW = np.zeros((5, 9), np.uint8)
    mask_HW[2, 3], mask_HW[2, 4] = 1, 2
    assert border_map(mask_HW, 5.0)[2, 2] == pytest.approx(exp(-(3**2) / 50), abs=1e-3)  # 1 + 2


@given(seed=st.integers(0, 1000), sigma_px=st.sampled_from([0.7, 1.5, 4.0]))
@settings(max_examples=25, deadline=None)
def test_the_border_map_is_that_of_whole_distance_maps(seed: int, sigma_px: float) -> None:
    noise_HW = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(40, 30)), 1.5)
    mask_HW = (noise_HW > 0.15).astype(np.uint8)
    objects_HW, count = ndimage.label(mask_HW, structure=np.ones((3, 3)))
    distance = np.sort([ndimage.distance_transform_edt(objects_HW != one) for one in range(1, count + 1)], axis=0)
    expected_HW = np.exp(-((distance[0] + distance[1]) ** 2) / (2 * sigma_px**2)) * (mask_HW == 0)
    np.testing.assert_allclose(border_map(mask_HW, sigma_px), expected_HW, atol=1e-3)


def test_the_predicted_class_is_foreground_above_one_half_or_the_likeliest() -> None:
    assert predicted_classes(LOGITS_BKHW).sum(dim=(1, 2)).tolist() == [1, 0]
    logits_BKHW = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]).view(1, 3, 1, 2)
    assert predicted_classes(logits_BKHW).tolist() == [[[0, 2]]]


@pytest.mark.parametrize("gamma", [0.25, 0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize(("outputs", "sigmoid"), [(1, True), (2, False)])
def test_focal_of_every_gamma_is_its_formula_and_certain_pixels_have_a_slope(
    gamma: float, outputs: int, sigmoid: bool
) -> None:
    """(1 - p)^gamma * -log p; below gamma 1 the slope of the power is infinite where a pixel is certain."""
    loss = made(outputs, sigmoid=sigmoid, name="focal", gamma=gamma)
    margin = torch.tensor([-1.0, 0.0, 2.0, 200.0]).view(1, 1, 1, 4)  # for the class that is right
    margin.requires_grad_()
    logits_BKHW = margin if outputs == 1 else torch.cat([torch.zeros_like(margin), margin], dim=1)
    (value,) = loss(logits_BKHW, torch.ones(1, 1, 4, dtype=torch.uint8))
    p = [1 / (1 + exp(-x)) for x in (-1.0, 0.0, 2.0)]
    assert value.item() == pytest.approx(sum((1 - one) ** gamma * -log(one) for one in p) / 4, rel=1e-5)
    (slope_BKHW,) = torch.autograd.grad(value, margin)
    assert torch.isfinite(slope_BKHW).all()
    assert (slope_BKHW[..., :3] < 0).all()
    assert slope_BKHW[..., 3].item() == pytest.approx(0, abs=1e-6)


def test_below_a_millionth_the_power_of_what_is_wrong_stays() -> None:
    loss = made(name="focal", gamma=0.5)
    (value,) = loss(torch.full((1, 1, 1, 1), 16.0), torch.ones(1, 1, 1, dtype=torch.uint8))
    assert value.item() == pytest.approx(1e-6**0.5 * exp(-16), rel=1e-4)  # -log p is about 1 - p, 1.1e-7


def test_a_probability_of_one_half_is_background() -> None:
    logits_BKHW = torch.tensor([-1e-7, 0.0, 1e-7]).view(1, 1, 1, 3)
    assert predicted_classes(logits_BKHW).tolist() == [[[0, 0, 1]]]


def test_borders_add_to_a_weight_of_one_where_classes_have_none() -> None:
    loss = made(name="boundary_bce", w0=10.0)
    border_BHW = torch.tensor([[[0.0, 0.5]]])
    value = loss(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 2, dtype=torch.uint8), border_BHW)[0].item()
    assert value == pytest.approx(log(2) * (1 + (1 + 10 * 0.5)) / 2)
