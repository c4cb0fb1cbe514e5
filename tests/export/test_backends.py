"""What runs a network in torch's place: measured at export, and chosen by what it loses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segops.commands.backends import measure_backends, use_backend
from segops.commands.export import judging
from segops.commands.predict import PredictRequest, predict
from segops.commands.used_model import UsedModel
from segops.contracts.backends import Backends, MeasuredBackend
from segops.contracts.prepared import Prepared
from segops.data.arrays import PreparedData
from segops.errors import UserError
from segops.export.backends import chosen, lacking, runner
from segops.export.int8_file import saturates
from segops.inference.predict import Predictor
from segops.inference.program import EnsembleProgram
from segops.params.export import Backend, ExportParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from tests.support.image_files import png
from tests.support.small_models import (
    SOME_SHA256,
    brightness_params,
    brightness_program,
    save_candidate,
    small_program,
)
from tests.support.tiny_prepared import write_prepared

FEW = ExportParams(calibration_images=4, passes=1, timed_images=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A candidate, and its measured backends."""
    folder = tmp_path_factory.mktemp("backends")
    prepared = write_prepared(folder / "prepared")
    save_candidate(folder / "model", brightness_program(), brightness_params(), Prepared.load(prepared))
    used = UsedModel(folder / "model", "the model")
    data = PreparedData.open(prepared)
    measure_backends(used, data, judging(data, FEW), FEW, 1, folder / "out" / Backends.FOLDER)
    return folder


def use(folder: Path, backend: str) -> tuple[Predictor, str]:
    predictor = Predictor.load(folder / "model")
    used = UsedModel(folder / "model", "the model")
    return predictor, use_backend(predictor, backend, used, folder / "out", TrackingParams(), 1)


def noise(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_every_backend_is_measured_or_skipped_with_its_reason(folder: Path) -> None:
    table = Backends.load(folder / "out" / Backends.FOLDER)
    measured = {row.backend: row for row in table.backends}
    assert {"torch", "torch-bf16", "onnx"} <= set(measured)
    assert ("onnx-int8" in measured) != saturates()
    assert measured["torch"].dice_loss == 0
    assert measured["onnx"].dice_loss == 0  # brightness alone decides
    assert all(row.allowed for row in table.backends if row.backend in ("torch", "onnx"))
    reasons = {row.backend: row.reason for row in table.skipped}
    assert set(measured) | set(reasons) == set(Backend.__args__)  # type: ignore[attr-defined]
    assert "needs an NVIDIA GPU" in reasons.get("tensorrt", "needs an NVIDIA GPU")


@pytest.mark.parametrize("size_hw", [(50, 70), (300, 277)])  # the second is cut into windows
@pytest.mark.parametrize(("backend", "most"), [("torch", 0), ("onnx", 1e-5), ("torch-bf16", 0.2), ("onnx-int8", 0.3)])
def test_only_the_network_differs(folder: Path, backend: str, most: float, size_hw: tuple[int, int]) -> None:
    if backend.endswith("int8") and saturates():
        pytest.skip("a processor without VNNI")
    image = noise(*size_hw, 3)
    expected = Predictor.load(folder / "model").probability(image)
    predictor, name = use(folder, backend)
    assert name == backend
    assert np.abs(predictor.probability(image) - expected).max() <= most


@pytest.mark.parametrize(
    ("capabilities", "reason"),
    [
        ({"architecture": "x86_64", "avx512_vnni": True, "avx_vnni": False}, None),
        ({"architecture": "x86_64", "avx512_vnni": False, "avx_vnni": True}, None),
        ({"architecture": "x86_64", "avx2": True}, "this processor has no VNNI, so that sums of int8 saturate"),
        ({"architecture": "aarch64"}, None),
    ],
)
def test_int8_is_left_out_where_its_sums_saturate(
    capabilities: dict[str, Any], reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert lacking("onnx-int8", small_program()) == reason
    assert lacking("onnx", small_program()) is None


def row(backend: Backend, milliseconds: float, loss: float, allowed: bool) -> MeasuredBackend:
    return MeasuredBackend(
        backend=backend, milliseconds=milliseconds, dice_loss=loss, ap_loss=None, allowed=allowed, files={}
    )


def table(*rows: MeasuredBackend) -> Backends:
    return Backends(
        candidate="small", weights_sha256=SOME_SHA256, assignment_sha256=SOME_SHA256, images=1, threads=1, device="cpu",
        max_dice_loss=0.002, max_ap_loss=0.005, backends=list(rows), skipped=[],
    )  # fmt: skip


def test_auto_takes_the_fastest_that_is_allowed_and_runs_here() -> None:
    program = small_program()
    rows = table(
        row("torch", 9, 0, True), row("torch-bf16", 5, 0.001, True), row("onnx-int8", 2, 0.003, False),
        row("tensorrt", 1, 0, True),
    )  # fmt: skip
    if lacking("tensorrt", program):
        assert chosen(rows, "auto", program).backend == "torch-bf16"
    assert chosen(rows, "auto", EnsembleProgram([program, program])).backend == "torch"


def test_a_backend_that_loses_too_much_or_was_not_measured_is_refused() -> None:
    rows = table(row("torch", 9, 0, True), row("onnx-int8", 2, 0.003, False))
    with pytest.raises(UserError, match=r"it lost 0.0030 of Dice on validation, where 0.002"):
        chosen(rows, "onnx-int8", small_program())
    with pytest.raises(UserError, match="--backend openvino: it wasn't measured"):
        chosen(rows, "openvino", small_program())


def test_other_files_or_weights_than_those_measured_are_refused(folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy/out/backends/network.onnx").write_bytes(b"other")
    with pytest.raises(UserError, match=r"network.onnx: not the file that backends.json names"):
        use(tmp_path / "copy", "onnx")
    save_candidate(tmp_path / "copy/model", brightness_program(resize="pad"), brightness_params(resize="pad"))
    program = small_program()
    save_candidate(tmp_path / "copy/model", program, brightness_params())
    model = Predictor(program, Predictor.load(folder / "model").model.model_copy(update={"weights_sha256": "0" * 64}))
    with pytest.raises(UserError, match=r"backends.json: measured for other weights; export the model anew"):
        use_backend(model, "onnx", UsedModel(folder, "the model"), folder / "out", TrackingParams(), 1)


def test_a_model_without_a_table_runs_in_torch_and_says_so(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictor, used = Predictor.load(folder / "model"), UsedModel(folder / "model", "the model")
    assert use_backend(predictor, "auto", used, None, TrackingParams(), 1) == "torch"
    with pytest.raises(UserError, match=r"the model has no backends.json; run `segops export`"):
        use_backend(predictor, "onnx", used, None, TrackingParams(), 1)
    with pytest.raises(UserError, match=r"--backend fpga: no such backend; there are auto, torch, torch-bf16"):
        use_backend(predictor, "fpga", used, None, TrackingParams(), 1)


def test_torch_leaves_the_threads_to_the_runtime(folder: Path) -> None:
    threads, program = torch.get_num_threads(), small_program()
    try:
        runner("onnx", program, folder / "out" / Backends.FOLDER, 2)
        assert torch.get_num_threads() == 1
        runner("torch", program, folder, 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_openvino_takes_frames_of_any_number(folder: Path) -> None:
    if reason := lacking("openvino", small_program()):
        pytest.skip(reason)
    program = brightness_program()
    run = runner("openvino", program, folder / "out" / Backends.FOLDER, 1)
    frames_BChw = torch.rand(3, program.channels, 64, 64)
    with torch.inference_mode():
        expected_B1hw = program.network.probabilities(program.network(frames_BChw))
    for count in (1, 3, 2):
        assert torch.allclose(run(frames_BChw[:count]), expected_B1hw[:count], atol=1e-5)


def test_predict_takes_a_backend_and_names_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(png(noise(60, 60, 3)))
    request = PredictRequest(
        str(folder / "model"), RuntimeParams(threads=1), TrackingParams(), [tmp_path / "a.png"], tmp_path / "masks",
        overlays=False, backend="onnx", exported=folder / "out",
    )  # fmt: skip
    assert predict(request) == [tmp_path / "masks/a.png"]
    assert "model, onnx" in capsys.readouterr().err
