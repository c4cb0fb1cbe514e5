"""GradCAM against a network whose gradients are known, and on real ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segops.inference.predict import Predictor
from segops.models.blocks import SegmentationNetwork
from segops.pictures.gradcam import class_activation, gradcam
from tests.support.small_models import candidate_params, small_program, trained_model


class TwoMaps(SegmentationNetwork):
    """The lowest map's two channels are the image and its negative; the logit is 3 times the one plus the other."""

    multiple = 1

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 2, 1, bias=False)
        self.output = nn.Conv2d(2, 1, 1, bias=False)
        with torch.no_grad():
            self.maps.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
            self.output.weight.copy_(torch.tensor([3.0, 1.0]).view(1, 2, 1, 1))

    def lowest(self) -> nn.Module:
        return self.maps

    def forward(self, image_BCHW: Tensor) -> Tensor:
        logits: Tensor = self.output(self.maps(image_BCHW))
        return logits


def test_channels_are_weighted_by_their_mean_gradients_and_negative_values_are_cut() -> None:
    image = torch.tensor([[[[2.0, -1.0], [0.0, 4.0]]]])
    # Gradients of the logits' sum are 3 and 1: 3 x + 1 (-x) = 2 x, cut at 0.
    expected = torch.tensor([[[[4.0, 0.0], [0.0, 8.0]]]])
    torch.testing.assert_close(class_activation(TwoMaps(), image), expected)
    with torch.no_grad():
        torch.testing.assert_close(class_activation(TwoMaps(), image), expected)


def test_images_of_a_batch_do_not_see_each_other() -> None:
    network, images = small_program().network, torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    together = class_activation(network, images)
    alone = torch.cat([class_activation(network, one[None]) for one in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    assert not network.lowest()._forward_hooks


@pytest.mark.parametrize("given", [{}, {"resize": "pad"}, {"resize": "none"}], ids=["stretch", "pad", "none"])
@pytest.mark.parametrize("classes", [2, 3])
def test_it_has_the_images_size_and_reaches_1(given: dict[str, Any], classes: int) -> None:
    params = candidate_params(**given).model_dump(mode="json")
    names, colours = ["background", "a", "b"][:classes], ["#000000", "#e69f00", "#56b4e9"][:classes]
    rule: dict[str, Any] = {"rule": "argmax", "threshold": None} if classes > 2 else {}
    model = trained_model(params=params, classes=names, class_colours=colours, **rule)
    predictor = Predictor(small_program(classes=classes, **given), model)
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    found = gradcam(predictor, image)
    assert found.shape == (70, 90)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() == 1 or not found.any()
    assert np.array_equal(found, gradcam(predictor, image))


def test_a_network_that_looks_nowhere_gives_0() -> None:
    program = small_program()
    with torch.no_grad():
        program.network.output.weight.zero_()
    assert not gradcam(Predictor(program, trained_model()), np.full((40, 40, 3), 200, np.uint8)).any()
