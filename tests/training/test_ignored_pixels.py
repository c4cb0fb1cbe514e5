"""Pixels that belong to no known class: they change no loss, no gradient and no score of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from segops.contracts.masks import IGNORED
from segops.data.arrays import PreparedData
from segops.params.augment import AugmentParams
from segops.params.candidate import CandidateParams, ObjectsParams
from segops.params.loss import LossParams
from segops.training.augmentation.augment import augment
from segops.training.augmentation.changes import draw_changes
from segops.training.batches.object_maps import border_map, depth_map
from segops.training.batches.patches import PatchSubset
from segops.training.batches.resized import ResizedSubset
from segops.training.batches.subsets import open_subsets
from segops.training.losses import Loss, class_weights, make_loss
from segops.training.validation_scores import _counts
from tests.support.tiny_prepared import ignore_pixels, write_prepared

CPU = torch.device("cpu")
KINDS = get_args(get_args(LossParams)[0])
LOSSES: list[dict[str, Any]] = [{"name": get_args(kind.model_fields["name"].annotation)[0]} for kind in KINDS]
SMOOTHED = [
    loss | {"label_smoothing": 0.2} for loss, kind in zip(LOSSES, KINDS, strict=True)
    if "label_smoothing" in kind.model_fields
]  # fmt: skip
BATCHES = [loss | {"over": "batch"} for loss, kind in zip(LOSSES, KINDS, strict=True) if "over" in kind.model_fields]
WEIGHED = [
    loss | {"class_weights": "inverse_frequency"} for loss, kind in zip(LOSSES, KINDS, strict=True)
    if "class_weights" in kind.model_fields
]  # fmt: skip
OUTPUTS = [(1, True), (3, False), (3, True)]  # channels, sigmoids
GENERATOR = torch.Generator().manual_seed(0)
SIZE = (6, 9)
LOGITS = {channels: torch.randn(2, channels + 1, *SIZE, generator=GENERATOR) for channels in (1, 3)}
BORDER_BHW, DEPTH_BHW = torch.rand(2, 2, *SIZE, generator=GENERATOR)
WHOLE, LEFT = SIZE[1], 5  # columns; those from the fifth on are ignored


def loss_of(given: dict[str, Any], channels: int, *, sigmoid: bool) -> Loss:
    adapter: TypeAdapter[LossParams] = TypeAdapter(LossParams)
    params = adapter.validate_python(given)
    weights_C = class_weights(params, max(2, channels), lambda classes: 1.0 + np.arange(classes))
    return make_loss(params, weights_C, sigmoid=sigmoid, objects=ObjectsParams(target="distance"))


def mask_of(channels: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    mask_BHW = torch.randint(max(2, channels), (2, *SIZE), generator=generator, dtype=torch.uint8)
    mask_BHW[:, :, LEFT:] = IGNORED
    return mask_BHW


def judged(loss: Loss, logits_BKHW: torch.Tensor, mask_BHW: torch.Tensor, columns: int = WHOLE) -> list[torch.Tensor]:
    """The losses of the first columns, and the gradient of their sum."""
    inputs = [array[..., :columns].contiguous() for array in (logits_BKHW, mask_BHW, BORDER_BHW, DEPTH_BHW)]
    leaf = inputs[0].clone().requires_grad_()
    losses_P = loss(leaf, *inputs[1:])
    losses_P.sum().backward()
    assert leaf.grad is not None
    return [losses_P.detach(), leaf.grad]


@pytest.mark.parametrize(("channels", "sigmoid"), OUTPUTS)
@pytest.mark.parametrize(
    "given", [*LOSSES, *SMOOTHED, *BATCHES, *WEIGHED], ids=lambda given: "-".join(map(str, given.values()))
)
def test_no_loss_sees_ignored_pixels(given: dict[str, Any], channels: int, sigmoid: bool) -> None:
    loss, logits_BKHW, mask_BHW = loss_of(given, channels, sigmoid=sigmoid), LOGITS[channels], mask_of(channels)
    losses_P, gradient = judged(loss, logits_BKHW, mask_BHW)
    other_BKHW = logits_BKHW.clone()
    other_BKHW[..., LEFT:] = 40 * torch.randn(other_BKHW[..., LEFT:].shape)
    for seen, expected in zip(judged(loss, other_BKHW, mask_BHW), (losses_P, gradient), strict=True):
        torch.testing.assert_close(seen, expected, rtol=0, atol=0)
    assert not gradient[..., LEFT:].any()
    cropped_P, cropped_gradient = judged(loss, logits_BKHW, mask_BHW, LEFT)
    torch.testing.assert_close(losses_P, cropped_P)
    torch.testing.assert_close(gradient[..., :LEFT], cropped_gradient)


@pytest.mark.parametrize("given", [*LOSSES, *BATCHES], ids=lambda given: "-".join(given.values()))
@pytest.mark.parametrize(("channels", "sigmoid"), OUTPUTS)
def test_an_image_that_is_ignored_as_a_whole_loses_nothing(given: dict[str, Any], channels: int, sigmoid: bool) -> None:
    loss, mask_BHW = loss_of(given, channels, sigmoid=sigmoid), torch.full_like(mask_of(1), IGNORED)
    losses_P, gradient = judged(loss, LOGITS[channels], mask_BHW)
    torch.testing.assert_close(losses_P, torch.zeros_like(losses_P), rtol=0, atol=1e-6)
    assert not gradient.any()


def test_shares_of_a_batch_that_ignore_more_or_less_make_up_its_cross_entropy() -> None:
    mask_BHW = mask_of(1)
    mask_BHW[1, :, 1:] = IGNORED
    loss = loss_of({"name": "bce"}, 1, sigmoid=True)
    whole = loss(LOGITS[1], mask_BHW, None, DEPTH_BHW)
    shares = [loss(LOGITS[1][[i]], mask_BHW[[i]], None, DEPTH_BHW[[i]]) for i in (0, 1)]
    torch.testing.assert_close(whole, torch.stack(shares).mean(dim=0))


def test_counts_of_validation_leave_ignored_pixels_out() -> None:
    mask_BHW, predicted_BHW = mask_of(3), torch.randint(3, (2, *SIZE), generator=GENERATOR)
    expected = _counts(predicted_BHW[..., :LEFT], mask_BHW[..., :LEFT], 3)
    torch.testing.assert_close(_counts(predicted_BHW, mask_BHW, 3), expected)


def test_an_ignored_pixel_is_no_object_and_no_border() -> None:
    mask_HW = np.zeros((9, 20), np.uint8)
    mask_HW[2:7, 2:9] = 1
    whole_HW = depth_map(mask_HW)
    mask_HW[:, 9:] = IGNORED  # the object may go on there
    depth_HW = depth_map(mask_HW)
    assert not depth_HW[mask_HW != 1].any()
    np.testing.assert_allclose(depth_HW[4, 2:9], [1 / 3, 2 / 3, 1, 1, 1, 1, 1], atol=1e-3)
    assert (whole_HW[4, 8], depth_HW[4, 8]) == (np.float16(1 / 3), 1)
    assert not border_map(mask_HW, sigma_px=5.0).any()  # a single object has nothing between itself and another


@pytest.fixture
def data(tmp_path: Path) -> PreparedData:
    """Discs of two classes whose upper half is ignored; the images of the second class are ignored as a whole."""
    folder = write_prepared(tmp_path, classes=3)
    return ignore_pixels(folder, lambda number, height: height // 2 if number % 2 == 0 else height)


def candidate(resize: str, **recipe: Any) -> CandidateParams:
    return CandidateParams.model_validate(
        {
            "model": {"architecture": "resunet", "filters": [4, 8, 16]},
            "input": {"size": 32, "resize": resize},
            "recipe": {"batch_size": 2, **recipe},
        }
    )


@pytest.mark.parametrize(("resize", "share"), [("none", "foreground_patches"), ("stretch", "foreground_images")])
def test_ignored_pixels_are_drawn_as_no_class_and_weigh_in_none(
    resize: str, share: str, data: PreparedData, tmp_path: Path
) -> None:
    train = open_subsets(data, candidate(resize, **{share: 1.0}), tmp_path / "cache", device=CPU).train
    drawn = train.draw(list(range(len(train))), torch.Generator().manual_seed(0))
    if isinstance(train, PatchSubset):
        seen = [data.mask(row) for row in data.rows("train")]
        assert {index for places in train._places.values() for index in range(len(places))} == {0}
    else:
        assert isinstance(train, ResizedSubset)
        seen = list(train.masks)
        assert {row % 2 for row in drawn} == {0}  # images in which no class is seen are never drawn
    expected_C = [sum(int((mask_HW == index).sum()) for mask_HW in seen) for index in range(3)]
    assert train.class_pixels(3).tolist() == expected_C
    assert expected_C[1] > 0 == expected_C[2]


@pytest.mark.parametrize("resize", ["none", "stretch", "pad"])
def test_ignored_pixels_stay_ignored_at_a_network_s_size_and_are_no_foreground(
    resize: str, data: PreparedData, tmp_path: Path
) -> None:
    val = open_subsets(data, candidate(resize), tmp_path / "cache", device=CPU).val
    assert val.has_foreground()
    for row in range(len(val)):
        mask_HW = val.batch([row], CPU)[1][0][val.content(row)]
        half = mask_HW.shape[0] // 2
        assert (mask_HW[:half] == IGNORED).all()
        assert bool((mask_HW[half:] == IGNORED).any()) == (row % 2 == 1)


def test_augmentation_moves_ignored_pixels_with_the_image_and_makes_no_new_values() -> None:
    mask_BHW = torch.zeros(4, 32, 32, dtype=torch.uint8)
    mask_BHW[:, 8:24, 8:16], mask_BHW[:, 8:24, 16:24] = 1, IGNORED
    image_BCHW = (mask_BHW[:, None] == IGNORED).float()
    moved = AugmentParams(rotate_deg=40, scale=0.2, translate=0.1, elastic_px=3, crop=0.2)
    changes = draw_changes(4, (32, 32), moved, torch.Generator().manual_seed(0))
    image_BCHW, mask_BHW = augment(image_BCHW, mask_BHW, changes)
    assert set(mask_BHW.unique().tolist()) == {0, 1, IGNORED}
    off_edge = (image_BCHW[:, 0] - 0.5).abs() > 0.49
    agrees = (image_BCHW[:, 0] > 0.5) == (mask_BHW == IGNORED)
    assert agrees[off_edge].all()
