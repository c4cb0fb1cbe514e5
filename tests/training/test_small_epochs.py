"""First epochs on images of half the size: what the network sees in training and in validation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from segops.models.blocks import SegmentationNetwork
from segops.params.candidate import CandidateParams
from segops.training.task import TrainingBatch
from tests.training.test_train import candidate, run


def test_a_batch_is_halved_by_means_of_pixels_and_every_second_class() -> None:
    image_HW = torch.tensor([[0.0, 1.0, 9.0], [0.5, 0.5, 9.0], [0.0, 0.0, 9.0], [0.0, 0.2, 9.0], [9.0, 9.0, 9.0]])
    mask_HW = torch.tensor([[2, 0, 9], [0, 0, 9], [0, 1, 9], [1, 1, 9], [9, 9, 9]])
    batch = TrainingBatch(image_HW[None, None], mask_HW[None], {"border_BHW": mask_HW[None] / 10}, weight=0.5)

    half = batch.halved()

    torch.testing.assert_close(half.image_BCHW, torch.tensor([[[[0.5], [0.05]]]]))
    assert half.mask_BHW.tolist() == [[[2], [0]]]
    torch.testing.assert_close(half.maps, {"border_BHW": torch.tensor([[[0.2], [0.0]]])})
    assert half.weight == 0.5


def test_first_epochs_train_at_half_the_size_and_validation_never_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, int]] = []
    call = SegmentationNetwork.__call__

    def noted(network: SegmentationNetwork, image_BCHW: torch.Tensor) -> object:
        if torch.is_grad_enabled() or not network.training:
            seen.append((network.training, image_BCHW.shape[-1]))
        return call(network, image_BCHW)

    monkeypatch.setattr(SegmentationNetwork, "__call__", noted)
    run(candidate(epochs=3, small_epochs=2), tmp_path)
    steps = 3  # ten images in batches of four
    assert [size for training, size in seen if training] == [16] * 2 * steps + [32] * steps
    assert {size for training, size in seen if not training} == {32}


@pytest.mark.parametrize("epochs", [3, 4])
def test_a_training_has_to_end_at_full_size(epochs: int) -> None:
    with pytest.raises(ValidationError, match=f"small_epochs is {epochs} of 3 epochs, .* lower it, or raise epochs"):
        candidate(epochs=3, small_epochs=epochs)


def test_volumes_have_none() -> None:
    given = {
        "model": {"architecture": "unet_3d"},
        "input": {"size": [16, 32, 32], "resize": "none"},
        "recipe": {"small_epochs": 1},
    }
    with pytest.raises(ValidationError, match="small_epochs is for images; of volumes set it 0"):
        CandidateParams.model_validate(given)
