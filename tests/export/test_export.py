"""A candidate in other formats: the same function, or one whose loss is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from segops.cli.printing import print_export
from segops.commands.export import export
from segops.contracts.prepared import Prepared
from segops.contracts.usage import Export
from segops.errors import UserError
from segops.export.judge import judge, milliseconds, spread
from segops.export.onnx_file import write_graph, write_onnx
from segops.export.runtimes import with_onnx_runtime, with_torch
from segops.inference.predict import Predictor
from segops.inference.preprocess import unit_image
from segops.params.export import ExportParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from tests.support.small_models import brightness_params, brightness_program, save_candidate, small_program
from tests.support.tiny_prepared import write_prepared

Floats = npt.NDArray[np.float32]
FEW = ExportParams(calibration_images=4, passes=1)


def noise(*shape: int) -> Floats:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def run_export(tmp_path: Path, *formats: str, **changed: Any) -> Export:
    prepared = write_prepared(tmp_path / "prepared")
    if not (tmp_path / "model").exists():
        save_candidate(tmp_path / "model", brightness_program(), brightness_params(), Prepared.load(prepared))
    return export(
        str(tmp_path / "model"),
        formats,
        FEW.model_copy(update=changed),
        RuntimeParams(threads=1, device="cpu"),
        TrackingParams(),
        prepared=prepared,
        out=tmp_path / "out",
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Export]:
    """One export for the tests that look at it: torch's exporter takes seconds."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "out").mkdir()
    (folder / "out" / "left-over.onnx").write_text("of an earlier export")
    return folder / "out", run_export(folder, "int8", "onnx", "tensorrt")


def test_the_onnx_file_gives_the_masks_of_predict_at_three_sizes(exported: tuple[Path, Export]) -> None:
    out, _ = exported
    predictor = Predictor.load(out.parent / "model")
    run = with_onnx_runtime(out / "model.onnx", 1)
    for height, width in ((33, 33), (130, 70), (300, 277)):  # the last one is cut into windows
        image_HWC = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        found_KHW = run(unit_image(image_HWC, 255, 3).contiguous().numpy())[0]
        assert np.array_equal(predictor.decide(found_KHW), predictor.mask(image_HWC))


def test_onnx_and_int8_are_written_and_judged_beside_torch(
    exported: tuple[Path, Export], capsys: pytest.CaptureFixture[str]
) -> None:
    out, made = exported
    assert Export.load(out) == made
    assert (made.images, made.calibration_images) == (4, 4)
    assert [one.format for one in made.formats] == ["torch", "onnx", "int8"]
    torch, onnx, int8 = made.formats
    assert torch.difference == torch.dice_loss == 0
    assert torch.dice > 0.99  # brightness tells the discs from their ground
    assert 0 < onnx.difference < 1e-5
    assert onnx.dice == torch.dice
    assert 1e-5 < int8.difference < 0.5
    assert int8.dice_loss == pytest.approx(torch.dice - int8.dice)
    assert all(one.milliseconds > 0 for one in made.formats)
    assert onnx.speed == pytest.approx(torch.milliseconds / onnx.milliseconds, rel=0.01)
    assert onnx.size_mib * 2**20 == pytest.approx((out / "model.onnx").stat().st_size, abs=60)
    assert [one.format for one in made.skipped] == ["tensorrt"]
    assert {path.name for path in out.iterdir()} == {"model.onnx", "model.int8.onnx", "export.json", "run.json"}
    print_export(made)
    said = capsys.readouterr()
    assert "int8 convolutions" in said.out
    assert "tensorrt skipped: needs an NVIDIA GPU" in said.err


def test_the_onnx_file_takes_any_number_and_size_of_images(exported: tuple[Path, Export]) -> None:
    out, _ = exported
    expected, found = with_torch(brightness_program()), with_onnx_runtime(out / "model.onnx", 1)
    for shape in ((1, 3, 64, 64), (3, 3, 50, 83), (1, 3, 130, 31)):
        np.testing.assert_allclose(found(noise(*shape)), expected(noise(*shape)), atol=1e-5)


@pytest.mark.slow
def test_a_format_beyond_its_tolerance_is_an_error_after_all_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^onnx missed the tolerance \(see .*export.json\)"):
        run_export(tmp_path, "onnx", tolerance=1e-12)
    assert not Export.load(tmp_path / "out").formats[1].passed


@pytest.mark.parametrize("case", ["format", "data", "nothing"])
def test_a_mistake_is_one_line_and_writes_nothing(tmp_path: Path, case: str) -> None:
    formats, text = {
        "format": ("onxx", "--format onxx: no such format; there are onnx, int8"),
        "data": ("onnx", r"not the data that .*model was trained on \(assignment_sha256 differs\)"),
        "nothing": ("tensorrt", "nothing can be exported here: tensorrt needs an NVIDIA GPU"),
    }[case]
    if case == "data":
        save_candidate(tmp_path / "model", brightness_program(), brightness_params(), None, manifest_sha256=_some())
    with pytest.raises(UserError, match=text):
        run_export(tmp_path, formats)
    assert not (tmp_path / "out").exists()


def _some() -> str:
    from segops.files import sha256_lines

    return sha256_lines(["some"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("resize", "tta", "input_steps"),
    [
        ("pad", "none", {"normalize": "zscore"}),
        ("stretch", "d4", {"normalize": "zscore_dataset"}),
        ("none", "flips", {"clip": {"window": [0.2, 0.8]}}),
        ("stretch", "none", {"clip": {"percentiles": [1, 99]}, "denoise_sigma_px": 1.0}),
        ("stretch", "none", {"clahe": {"tiles": 4}}),
    ],
)
def test_onnx_gives_torchs_probabilities_whatever_the_input_steps(
    tmp_path: Path, resize: str, tta: Any, input_steps: dict[str, Any]
) -> None:
    program = small_program(resize=resize, **input_steps)
    program.tta = tta
    write_onnx(program, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    expected, found = with_torch(program), with_onnx_runtime(tmp_path / "model.onnx", 1)
    for shape in ((1, 3, 64, 64), (3, 3, 50, 83), (1, 3, 130, 31)):
        np.testing.assert_allclose(found(noise(*shape)), expected(noise(*shape)), atol=1e-5)


def test_two_clips_of_a_value_keep_their_own_bounds(tmp_path: Path) -> None:
    class Clips(torch.nn.Module):
        def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
            low, high = image_BCHW.clamp(0.1, 0.4), image_BCHW.clamp(0.3, 0.8)
            return torch.cat([low, high.clamp(0.5, 0.7), image_BCHW.clamp(0.2, 0.6).clamp(0.25, 0.9)], dim=1)

    image = torch.linspace(0, 1, 2 * 12).reshape(2, 1, 3, 4)
    write_graph(Clips(), image, ({0: torch.export.Dim.DYNAMIC},), tmp_path / "clips.onnx")
    found = with_onnx_runtime(tmp_path / "clips.onnx", 1)
    np.testing.assert_allclose(found(image.numpy()), Clips()(image).numpy(), atol=1e-6)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_convolutions_without_a_bias_give_torchs_values(dimensions: int, tmp_path: Path) -> None:
    convolution, transposed = (getattr(torch.nn, f"{kind}{dimensions}d") for kind in ("Conv", "ConvTranspose"))
    torch.manual_seed(0)
    network = torch.nn.Sequential(convolution(1, 4, 3, bias=False), transposed(4, 2, 2, stride=2, bias=False))
    image = noise(2, 1, *[6] * dimensions)
    write_graph(network, torch.from_numpy(image), ({0: torch.export.Dim.DYNAMIC},), tmp_path / "net.onnx")
    found = with_onnx_runtime(tmp_path / "net.onnx", 1)(image)
    np.testing.assert_allclose(found, network(torch.from_numpy(image)).detach().numpy(), atol=1e-6)


@pytest.mark.slow
def test_openvino_gives_torchs_probabilities_and_reads_the_int8_file(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs openvino: pip install 'segops[export]'")
    made = run_export(tmp_path, "openvino", "openvino_int8")
    _, openvino, int8 = made.formats
    assert openvino.difference < 1e-4
    assert abs(int8.dice_loss) < 0.01
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model.xml", "model.bin", "model.int8.xml", "model.int8.bin", "export.json", "run.json",
    }  # fmt: skip


def test_judging_takes_masks_of_the_models_threshold(tmp_path: Path) -> None:
    from segops.data.arrays import PreparedData
    from tests.support.small_models import trained_model

    data = PreparedData.open(write_prepared(tmp_path / "prepared"))
    rows = data.rows("val")

    def constant(value: float) -> Any:
        return lambda image_BCHW: np.full((1, 1, *image_BCHW.shape[2:]), value, np.float32)

    runs = {"torch": constant(0.75), "low": constant(0.5)}
    found = judge(runs, data, rows, trained_model(threshold=0.6), 3)
    shares = [float((data.mask(row) > 0).mean()) for row in rows]
    assert found["torch"] == pytest.approx((np.mean([2 * share / (1 + share) for share in shares]), 0))
    assert found["low"] == (0, 0.25)  # nothing lies above the threshold


def test_the_time_is_a_median_over_images_and_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from segops.data.arrays import PreparedData
    from tests.support.small_models import trained_model

    data = PreparedData.open(write_prepared(tmp_path / "prepared"))
    clock = [0.0]
    # Of three images the first two passes: 1, 2, 3 ms; the third has a hiccup on each of them.
    lasting_s = iter([0.001, 0.002, 0.003, 0.001, 0.002, 0.003, 0.5, 0.5, 0.5])

    def run(image_BCHW: Floats) -> Floats:
        clock[0] += next(lasting_s)
        return image_BCHW

    monkeypatch.setattr("segops.inference.timing.time.perf_counter", lambda: clock[0])
    found = milliseconds({"one": run}, data, data.rows("val")[:3], trained_model(), 3, passes=3)
    assert found == {"one": pytest.approx(2)}


def test_rows_are_spread_evenly() -> None:
    assert spread(list(range(10)), 4) == [0, 2, 5, 7]
    assert spread([3, 4], None) == spread([3, 4], 5) == [3, 4]
