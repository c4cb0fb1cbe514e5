"""GradCAM panels while training: what they show, that they change nothing, and that they outlive a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from segops.contracts.tables import PANELS, PANELS_FILE
from segops.models.catalogue import build
from segops.params.candidate import CandidateParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.pictures.gradcam import class_activation
from segops.pictures.heat_maps import heat, heat_over
from segops.pictures.images import picture
from segops.stages.train import train
from tests.support.mlflow_server import AWAY
from tests.support.tiny_prepared import write_prepared
from tests.training.test_resume import interrupted
from tests.training.test_train import RESUNET, UNET, candidate, run, same, subsets

IDS = ["i10", "i11", "i12", "i13"]  # the validation images of tiny_prepared
SIDE, GAP = 32, 4
SIZES_HW = ((40, 40), (36, 48)) * 2

RECIPES = {
    "batch-norm-average-skipping": candidate(
        RESUNET | {"stochastic_depth": 0.5}, epochs=4, ema_decay=0.8, augment={"rotate_deg": 20}
    ),
    "dropout-running-statistics": candidate(
        UNET | {"batch_norm": True}, epochs=4, optimizer="adam", precise_bn_images=None, keep="last"
    ),
}


def with_panels(params: CandidateParams, every: int) -> CandidateParams:
    return params.model_copy(update={"recipe": params.recipe.model_copy(update={"gradcam_every": every})})


def written(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def parts(path: Path, width: int = SIDE) -> list[npt.NDArray[np.uint8]]:
    """The four pictures of a panel."""
    shown = np.asarray(Image.open(path))
    assert shown.shape[1] == 4 * width + 3 * GAP
    return [shown[:, at * (width + GAP) :][:, :width] for at in range(4)]


@pytest.mark.parametrize("params", RECIPES.values(), ids=RECIPES)
def test_panels_change_no_bit_of_the_training_and_a_resumed_one_draws_the_same(
    params: CandidateParams, tmp_path: Path
) -> None:
    plain, shown = run(params, tmp_path, "plain"), run(with_panels(params, 2), tmp_path, "shown")
    assert same(plain.weights, shown.weights)
    assert plain.history == shown.history
    assert not (tmp_path / "plain" / PANELS).exists()
    panels = written(tmp_path / "shown" / PANELS)
    assert set(panels) == {f"epoch_{epoch:04d}/{name}.png" for epoch in (2, 4) for name in IDS}
    assert panels["epoch_0002/i10.png"] != panels["epoch_0004/i10.png"]
    for epoch in (2, 3):  # after the panels, before the checkpoint
        with pytest.raises(KeyboardInterrupt):
            interrupted(with_panels(params, 2), tmp_path, "cut", cut_off_in=epoch)
    assert same(run(with_panels(params, 2), tmp_path, "cut").weights, plain.weights)
    assert written(tmp_path / "cut" / PANELS) == panels


def test_a_panel_shows_image_truth_probability_and_gradcam(tmp_path: Path) -> None:
    params = with_panels(candidate(UNET, epochs=2, keep="last"), 2)
    network = build(params.model, channels=3, classes=2)
    network.load_state_dict(run(params, tmp_path).weights)
    val = subsets(tmp_path, params).val
    for row, name in enumerate(IDS):
        image_BCHW, mask_BHW = val.batch([row], torch.device("cpu"))
        image_HWC = (image_BCHW[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        image, truth, probability, cam = parts(tmp_path / "run" / PANELS / "epoch_0002" / f"{name}.png")
        assert np.array_equal(image, picture(image_HWC))
        assert np.array_equal(truth, np.repeat(mask_BHW[0, ..., None].numpy() * np.uint8(255), 3, axis=-1))
        logits_BKHW = network.eval()(image_BCHW)
        expected = heat(logits_BKHW.sigmoid().detach()[0, 0].numpy())
        assert np.abs(probability.astype(int) - expected).max() <= 1
        cam_HW = class_activation(network, image_BCHW)[0, 0].numpy()
        expected = heat_over(image_HWC, cam_HW / max(cam_HW.max(), 1e-12))
        assert np.abs(cam.astype(int) - expected).max() <= 1


def test_native_images_are_shown_whole_and_several_channels_as_foreground(tmp_path: Path) -> None:
    params = with_panels(candidate(epochs=1, patches_per_image=2), 1).model_dump()
    params |= {"outputs": "sigmoid", "input": {"size": 32, "resize": "none"}}
    run(CandidateParams.model_validate(params), tmp_path)
    folder = tmp_path / "run" / PANELS / "epoch_0001"
    sizes = {name: Image.open(folder / f"{name}.png").size for name in IDS}
    assert sizes == {name: (4 * width + 3 * GAP, height) for name, (height, width) in zip(IDS, SIZES_HW, strict=True)}
    assert len(np.unique(parts(folder / "i10.png", 40)[2])) > 10


def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **given: Any) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    params = CandidateParams.model_validate(with_panels(candidate(epochs=2), 2).model_dump() | given)
    model = tmp_path / "model"
    prepared = write_prepared(tmp_path / "prepared")
    train("tiny", params, RuntimeParams(threads=1, device="cpu"), TrackingParams(), prepared=prepared, model=model)
    return model / PANELS


def test_the_stage_writes_the_panels_beside_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panels = staged(tmp_path, monkeypatch)
    assert sorted(written(panels)) == [f"epoch_0002/{name}.png" for name in IDS]
    assert json.loads((panels / PANELS_FILE).read_text()) == sorted(written(panels))
    (panels / "epoch_0002" / "i10.png").unlink()
    (panels / "epoch_0099").mkdir()
    assert sorted(written(staged(tmp_path, monkeypatch))) == [f"epoch_0002/{name}.png" for name in IDS]


def test_folds_have_panels_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panels = staged(tmp_path, monkeypatch, cross_validation="scores")
    folders = sorted({path.rsplit("/", 1)[0] for path in written(panels)})
    assert folders == ["epoch_0002", *(f"fold{fold}/epoch_0002" for fold in range(5))]
