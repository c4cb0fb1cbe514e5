"""The output that tells objects apart: its target, its loss, and what it adds to a mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from pydantic import ValidationError

from segops.commands.segment import PictureTask, predict_image
from segops.data.arrays import PreparedData
from segops.data.image_rows import ImageRows
from segops.evaluation.object_scores import average_precision
from segops.inference.instances import components, label_objects
from segops.inference.predict import Predictor
from segops.models.catalogue import build_network
from segops.params.candidate import CandidateParams, ObjectsParams
from segops.params.evaluate import EvaluateParams
from segops.params.inference import InstanceParams
from segops.params.loss import BCELoss
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.stages.evaluate import evaluate
from segops.stages.ingest import ingest
from segops.stages.prepare import prepare
from segops.stages.train import train
from segops.training.batches.object_maps import BORDER, DEPTH, border_map, depth_map
from segops.training.batches.patches import Patch
from segops.training.batches.subsets import open_subsets
from segops.training.losses import make_loss
from tests.support.factories import ingest_params, tiny_split, write_image
from tests.support.mlflow_server import AWAY

CPU = torch.device("cpu")
SIDE = 32
OBJECTS = {"target": "distance"}
PREDICTED = {"method": "watershed", "seeds": "predicted"}


def candidate(**given: Any) -> CandidateParams:
    quick = {
        "epochs": 12, "batch_size": 4, "loss": {"name": "bce"}, "learning_rate": 0.02, "ema_decay": None,
        "precision": "fp32", "augment": {"flip": True},
    }  # fmt: skip
    return CandidateParams.model_validate(
        {
            "model": {"architecture": "resunet", "filters": [4, 8, 16]},
            "input": {"size": SIDE},
            "recipe": {**quick, **given.pop("recipe", {})},
            "objects": OBJECTS,
            "inference": {"instances": PREDICTED},
            **given,
        }
    )


def touching_discs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image HW uint8 and ids HW of two discs that touch; each is bright in its middle and dims to its rim."""
    rng = np.random.default_rng(seed)
    ids_HW, image_HW = np.zeros((SIDE, SIDE), np.uint16), rng.normal(20, 6, (SIDE, SIDE))
    radius, angle = rng.uniform(5, 6.5), rng.uniform(0, np.pi)
    y, x = np.ogrid[:SIDE, :SIDE]
    for number, sign in ((1, -1), (2, 1)):
        row, column = 16 + sign * radius * np.sin(angle), 16 + sign * radius * np.cos(angle)
        distance = np.hypot(y - row, x - column)
        inside = (distance <= radius) & (ids_HW == 0)
        ids_HW[inside] = number
        image_HW[inside] = 230 - 110 * distance[inside] / radius
    return image_HW.clip(0, 255).astype(np.uint8), ids_HW


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of touching discs that the source tells apart: 16 for training, 8 each for validation and test."""
    root = tmp_path_factory.mktemp("discs")
    (root / "raw" / "masks").mkdir(parents=True)
    for i in range(32):
        image_HW, ids_HW = touching_discs(i)
        write_image(root / "raw" / "images" / f"{i:02}.png", image_HW[..., None])
        tifffile.imwrite(root / "raw" / "masks" / f"{i:02}.tif", ids_HW)
    ingest(ingest_params(root / "raw", mask_kind="objects"), dataset=root / "dataset")
    prepare(dataset=root / "dataset", split=tiny_split(root / "dataset", root / "split"), prepared=root / "prepared")
    return root / "prepared"


def test_depth_is_the_distance_to_what_is_not_the_object_over_its_largest() -> None:
    objects_HW = np.zeros((7, 12), np.uint16)
    objects_HW[1:6, 1:6], objects_HW[1:6, 6:9] = 1, 2
    mask_HW = (objects_HW > 0).astype(np.uint8)
    found_HW = depth_map(mask_HW, objects_HW)
    np.testing.assert_allclose(found_HW[3, 1:9], [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3, 1 / 2, 1, 1 / 2], atol=1e-3)
    assert not found_HW[mask_HW == 0].any()
    joined_HW = depth_map(mask_HW)  # what touches is one where the source tells none apart
    np.testing.assert_allclose(joined_HW[3, 1:9], np.array([1, 2, 3, 3, 3, 3, 2, 1]) / 3, atol=1e-3)


def test_depth_takes_the_image_s_edge_for_no_border_and_a_full_image_for_all_inside() -> None:
    left_HW = np.zeros((3, 9), np.uint8)
    left_HW[:, :4] = 1
    np.testing.assert_allclose(depth_map(left_HW)[1], [1, 3 / 4, 1 / 2, 1 / 4, 0, 0, 0, 0, 0], atol=1e-3)
    assert (depth_map(np.ones((3, 4), np.uint8)) == 1).all()
    assert not depth_map(np.zeros((3, 4), np.uint8)).any()


def test_border_weights_act_between_objects_that_touch() -> None:
    objects_HW = np.zeros((5, 9), np.uint16)
    objects_HW[2, 3], objects_HW[2, 4] = 1, 2
    mask_HW = (objects_HW > 0).astype(np.uint8)
    assert border_map(mask_HW, 5.0, objects_HW)[2, 2] == pytest.approx(np.exp(-(3**2) / 50), abs=1e-3)  # 1 + 2
    assert not border_map(mask_HW, 5.0).any()


def test_maps_are_those_of_the_source_s_objects_at_the_size_that_the_network_sees(
    prepared: Path, tmp_path: Path
) -> None:
    data = PreparedData.open(prepared)
    boundary = {"recipe": {"loss": {"name": "boundary_bce", "sigma_px": 3.0}}}
    rows = data.rows("train")
    whole, patches = (
        open_subsets(data, candidate(**boundary, input={"size": SIDE, "resize": how}), tmp_path / how, device=CPU)
        for how in ("stretch", "none")
    )
    for position, row in enumerate(rows[:3]):
        depth_HW, border_HW = (
            depth_map(data.mask(row), data.objects(row)),
            border_map(data.mask(row), 3.0, data.objects(row)),
        )
        for found in (whole.train.further([position], CPU), patches.train.further([Patch(row, (0, 0))], CPU)):
            assert list(found) == [BORDER, DEPTH]
            np.testing.assert_array_equal(found[DEPTH][0].numpy(), depth_HW)
            np.testing.assert_array_equal(found[BORDER][0].numpy(), border_HW)
    val = data.rows("val")[1]
    for subsets in (whole, patches):
        found_HW = subsets.val.further([1], CPU)[DEPTH][0].numpy()
        np.testing.assert_array_equal(found_HW, depth_map(data.mask(val), data.objects(val)))
    half = open_subsets(data, candidate(input={"size": 64}), tmp_path / "double", device=CPU).train.further([0], CPU)
    ids_HW = data.objects(rows[0])
    assert ids_HW is not None
    large_HW = ids_HW.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(half[DEPTH][0].numpy(), depth_map((large_HW > 0).astype(np.uint8), large_HW))


def test_the_loss_of_the_object_channel_is_its_cross_entropy_with_depth() -> None:
    loss = make_loss(BCELoss(name="bce"), sigmoid=True, objects=ObjectsParams(target="distance", weight=0.5))
    logits_BKHW = torch.tensor([[[[2.0, -1.0]], [[0.5, -3.0]]]])
    mask_BHW, depth_BHW = torch.tensor([[[1, 0]]], dtype=torch.uint8), torch.tensor([[[0.25, 0.0]]])
    p = torch.sigmoid(logits_BKHW.double())[0, :, 0]
    bce = -(p[0, 0].log() + (1 - p[0, 1]).log()) / 2
    objects = -(0.25 * p[1, 0].log() + 0.75 * (1 - p[1, 0]).log() + (1 - p[1, 1]).log()) / 2
    assert loss.parts == ("bce", "objects")
    found_P = loss(logits_BKHW, mask_BHW, depth_BHW=depth_BHW)
    assert found_P.tolist() == pytest.approx([float(bce + 0.5 * objects), float(bce), float(objects)])


@pytest.mark.parametrize(("classes", "outputs", "channels"), [(2, "softmax", 1), (3, "softmax", 3), (2, "sigmoid", 1)])
def test_the_object_channel_comes_after_the_classes_and_changes_none_of_them(
    classes: int, outputs: str, channels: int
) -> None:
    network = build_network(candidate(outputs=outputs), classes)
    own = 1 if classes == 2 and outputs == "softmax" else classes
    logits_BKHW = torch.randn(2, own + 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert network.output.out_channels == own + 1
    found_BKHW = network.probabilities(logits_BKHW)
    assert found_BKHW.shape[1] == channels + 1
    plain = build_network(candidate(outputs=outputs, objects=None, inference={}), classes)
    assert torch.equal(found_BKHW[:, :channels], plain.probabilities(logits_BKHW[:, :own]))
    assert torch.equal(found_BKHW[:, channels:], logits_BKHW[:, own:].sigmoid())


def test_predicted_depth_parts_what_components_join() -> None:
    ids_HW = touching_discs(0)[1]
    mask_HW = (ids_HW > 0).astype(np.uint8)
    depth_HW = depth_map(mask_HW, ids_HW).astype(np.float32)
    params, probability_KHW = InstanceParams.model_validate(PREDICTED), mask_HW[None].astype(np.float32)
    found_HW = label_objects(mask_HW, probability_KHW, params, depth_HW)
    assert average_precision(ids_HW, found_HW)[-1] == 1  # at IoU 0.95
    assert components(mask_HW).max() == 1


def test_specks_of_a_predicted_depth_are_no_seeds_once_it_is_smoothed() -> None:
    mask_HW = np.ones((30, 40), np.uint8)
    y, x = np.ogrid[:30, :40]
    depth_HW = np.clip(1 - np.hypot(y - 15, x - 20) / 16, 0, 1).astype(np.float32)
    depth_HW[2, 3] = depth_HW[27, 36] = 0.9
    for smooth_px, objects in ((0.0, 3), (1.0, 1)):
        params = InstanceParams.model_validate({**PREDICTED, "smooth_px": smooth_px})
        found_HW = label_objects(mask_HW, mask_HW[None].astype(np.float32), params, depth_HW)
        assert found_HW.max() == objects


def test_predicted_seeds_need_an_output_that_predicts_them_in_every_network() -> None:
    with pytest.raises(ValidationError, match=r"seeds is predicted, but no output predicts objects; set objects"):
        candidate(objects=None)
    member = candidate().model_dump(include={"model", "input", "recipe", "outputs"})
    with pytest.raises(ValidationError, match=r"either all networks of a candidate have objects or none"):
        candidate(members=[member])


def test_a_trained_head_parts_touching_objects_in_evaluate_and_predict(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    folder, runtime = tmp_path / "model", RuntimeParams(threads=1, device="cpu")
    train("tiny", candidate(), runtime, TrackingParams(), prepared=prepared, model=folder)
    made = evaluate(
        EvaluateParams(gallery_images=1), runtime, prepared=prepared, model=folder, report=tmp_path / "report"
    )
    found = made.test.instances
    assert found is not None
    assert (found.truth, found.objects) == ("objects of the source", 16)
    assert found.by_iou["0.55"] > 0.8
    data, predictor = PreparedData.open(prepared), Predictor.load(folder)
    for row in data.rows("test"):
        truth_HW, image_HWC = data.objects(row), data.image(row)
        assert truth_HW is not None
        assert average_precision(truth_HW, components(predictor.mask(image_HWC)))[1] == 0, "a pair is found as one"
    maps = predictor.maps(image_HWC)
    assert maps.probability_KHW.shape == (1, SIDE, SIDE)
    task = PictureTask("image.png", (write_image(tmp_path / "image.png", image_HWC),), tmp_path / "mask.png")
    segmented = predict_image(predictor, ImageRows.of(image_HWC), task, overlays=False)
    assert segmented.objects == 2
    (written_HW,) = (np.asarray(Image.open(file)) for file in segmented.files if ".objects" in file.name)
    np.testing.assert_array_equal(written_HW, predictor.objects(predictor.mask(image_HWC), maps))
