"""From image files and folders to masks."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from segops.commands.predict import PredictRequest, predict, segment_all
from segops.commands.segment import Segmented, predict_image
from segops.data.image_rows import ImageRows, open_rows
from segops.errors import DiskFullError, UserError
from segops.inference.cleaning import foreground_of, mask_of
from segops.inference.predict import Maps, Predictor
from segops.inference.windows import WindowRule
from segops.params.inference import InstanceParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.pictures.png_file import write_mask
from tests.support.image_files import write_zarr
from tests.support.small_models import (
    brightness_params,
    brightness_program,
    save_candidate,
    small_program,
    trained_model,
)

Array = npt.NDArray[Any]


def bright_square(height: int = 60, width: int = 90, *, dtype: str = "uint8", channels: int = 3) -> tuple[Array, Array]:
    """An image and its mask: a white square on black."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 1
    image = mask.astype(dtype) * np.iinfo(dtype).max
    return np.repeat(image[..., None], channels, axis=2), mask


def predictor(**model: Any) -> Predictor:
    return Predictor(brightness_program(), trained_model(**model))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_mask_has_the_images_size_whatever_its_type_and_channels(dtype: str, channels: int) -> None:
    image, mask = bright_square(48, 64, dtype=dtype, channels=channels)
    # 48x64 becomes 64x64 and back, so the border may move by a pixel; the inside can't.
    found = predictor().mask(image)
    assert found.shape == (48, 64)
    assert found.dtype == np.uint8
    assert (found != mask).mean() < 0.02


def test_the_threshold_decides() -> None:
    grey = np.full((64, 64, 3), 140, np.uint8)
    probability = predictor().foreground(grey)
    expected = 1 / (1 + np.exp(-(20 * 140 / 255 - 10)))
    np.testing.assert_allclose(probability, expected, rtol=1e-4)
    assert predictor(threshold=0.70).mask(grey).all()
    assert not predictor(threshold=0.75).mask(grey).any()


def test_the_likeliest_of_several_classes_is_taken() -> None:
    # Foreground together is likelier than background, but no single class is.
    probability = np.array([[0.4, 0.3, 0.3], [0.3, 0.3, 0.4], [0.1, 0.5, 0.4]], np.float32).T.reshape(3, 1, 3)
    assert foreground_of(probability)[0, 0] == pytest.approx(0.6)
    assert mask_of(probability, None)[0].tolist() == [0, 2, 1]


def test_large_images_are_cut_into_windows_and_small_ones_are_not() -> None:
    def windows(rule: WindowRule, height: int, width: int) -> tuple[int, int]:
        window_h, window_w = rule.window_hw((torch.tensor(height), torch.tensor(width)))
        return int(window_h), int(window_w)

    resized = WindowRule.of_resized((64, 100), (80, 100), 0.25)
    assert windows(resized, 200, 200) == (200, 200)
    assert windows(resized, 200, 201) == (64, 80)
    assert windows(resized, 10, 201) == (10, 80)
    assert windows(brightness_program(resize="none").windows, 200, 200) == (64, 64)


def test_native_pixels_are_predicted_as_they_are_at_every_size() -> None:
    native = Predictor(brightness_program(resize="none"), trained_model())
    for size_hw in (200, 201), (64, 64), (20, 33), (130, 40):
        image = np.random.default_rng(0).integers(0, 256, (*size_hw, 1), np.uint8)
        expected = 1 / (1 + np.exp(-20 * (image[..., 0] / 255 - 0.5)))
        np.testing.assert_allclose(native.foreground(image), expected, atol=1e-4)


def test_tiles_keep_the_scale_that_the_network_has_learnt() -> None:
    # A checkerboard of 3 px in 240x240: shrunk to 64x64 it is grey, in tiles of 64x64 it survives.
    rows, columns = np.indices((240, 240)) // 3 % 2
    image = np.repeat(((rows ^ columns) * 255).astype(np.uint8)[..., None], 3, axis=2)
    program = brightness_program()
    program.windows = WindowRule.of_resized((64, 100), (64, 100), 0.25)
    assert (Predictor(program, trained_model()).mask(image) == (image[..., 0] > 0)).all()


def test_the_whole_image_stretched_to_a_fixed_size() -> None:
    image, _ = bright_square(60, 120)
    for how in ("stretch", "pad", "none"):
        one = Predictor(brightness_program(resize=how), trained_model())
        found = one.stretched(image, (256, 256)) > 0.5
        # The square's quarter of each side, wherever it stands.
        expected = np.zeros((256, 256), bool)
        expected[64:128, 64:128] = True
        assert (found != expected).mean() < 0.02, how
    exact = Predictor(small_program(size=256), trained_model()).stretched(image, (256, 256))
    assert exact.shape == (256, 256)


def write(path: Path, image: Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> str:
    save_candidate(tmp_path / "model", brightness_program(), brightness_params())
    return str(tmp_path / "model")


def run(model: str, inputs: list[Path], out: Path, *, overlays: bool = False) -> list[Path]:
    threads = torch.get_num_threads()
    runtime = RuntimeParams(threads=threads, device="cpu")
    return predict(PredictRequest(model, runtime, TrackingParams(), inputs=inputs, out=out, overlays=overlays))


def test_files_and_folders_become_masks(model: str, tmp_path: Path) -> None:
    image, mask = bright_square(64, 64)
    single = write(tmp_path / "single.tif", image)
    folder = tmp_path / "folder"
    write(folder / "a.png", image[..., 0])
    write(folder / "deeper" / "a.bmp", image)
    (folder / "notes.txt").write_text("no image")
    written = run(model, [single, folder], tmp_path / "out")
    names = ["a.png", "deeper/a.png", "single.png"]
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in written) == names
    for path in written:
        found = np.asarray(Image.open(path))
        assert np.array_equal(found, mask * 255)


def test_pictures_of_a_size_go_through_a_gpu_together_with_the_same_masks(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, sizes = np.random.default_rng(0), [(64, 64)] * 5 + [(60, 90)] * 2 + [(64, 64), (300, 300)]
    for number, size in enumerate(sizes):
        write(tmp_path / f"in/{number}.png", rng.integers(0, 256, (*size, 3), np.uint8))
    write(tmp_path / "in/3.png", np.full((64, 64), 60_000, np.uint16))
    (tmp_path / "in/5.png").write_text("this is no PNG")
    for name in ("x", "y"):  # of two channels, which the model doesn't take
        np.save(tmp_path / f"in/{name}.npy", np.zeros((64, 64, 2), np.uint8))
    runtime = RuntimeParams(threads=torch.get_num_threads(), device="cpu")

    def masks(out: str) -> tuple[list[Segmented], dict[str, bytes]]:
        request = PredictRequest(
            model, runtime, TrackingParams(), inputs=[tmp_path / "in"], out=tmp_path / out, overlays=False
        )
        done = [replace(image, files=()) for image in segment_all(request)]
        return done, {path.name: path.read_bytes() for path in (tmp_path / out).iterdir()}

    alone, together = masks("alone"), []
    compute = Predictor.maps_together

    def noted(predictor: Predictor, images: Sequence[ImageRows]) -> list[Maps]:
        together.append(len(images))
        return compute(predictor, images)

    monkeypatch.setattr(Predictor, "most_at_once", 3)
    monkeypatch.setattr("segops.inference.windows._CPU_PX", 3 * 64 * 64)
    monkeypatch.setattr(Predictor, "maps_together", noted)
    assert masks("together") == alone
    monkeypatch.setattr("segops.inference.windows._CPU_PX", 3 * 64 * 64 - 1)  # what the network sees counts too
    program = brightness_program([64, 96])
    image = ImageRows.of(np.zeros((32, 32, 3), np.uint8))
    assert Predictor(program, trained_model()).at_once(image) == 1
    assert Predictor(brightness_program(), trained_model()).at_once(image) == 2
    # 0, 1, 2 and x, y; 3 is of another type, 5 no image, 4, 6, 7 and 8 differ from their neighbours.
    assert [count for count in together if count > 1] == [3, 2]
    assert [image.image for image in alone[0] if image.error] == ["5.png", "x.npy", "y.npy"]


def test_a_picture_is_written_while_the_network_has_the_next(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write(tmp_path / f"in/{number}.png", np.full((40, 40, 3), 80 * number, np.uint8))
    begun, compute, written = [threading.Event() for _ in range(3)], Predictor.maps_together, predict_image
    seen: Iterator[threading.Event] = iter(begun)

    def noted(predictor: Predictor, images: Sequence[ImageRows]) -> list[Maps]:
        next(seen).set()
        return compute(predictor, images)

    def waited(*given: Any, **options: Any) -> Segmented:
        assert begun[1].wait(60), "the second picture waits for the first one's mask"
        return written(*given, **options)

    monkeypatch.setattr(Predictor, "maps_together", noted)
    monkeypatch.setattr("segops.commands.predict.predict_image", waited)
    runtime = RuntimeParams(threads=torch.get_num_threads(), device="cpu")
    done = segment_all(
        PredictRequest(model, runtime, TrackingParams(), [tmp_path / "in"], tmp_path / "out", overlays=False)
    )
    assert [image.image for image in done] == ["0.png", "1.png", "2.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "2.png"]


def test_small_and_large_pictures_come_in_order_and_a_small_one_has_the_mask_that_its_rows_have(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, sizes = np.random.default_rng(0), [(40, 60), (300, 200), (40, 60), (40, 60), (200, 300), (40, 60)]
    for number, size in enumerate(sizes):
        write(tmp_path / f"in/{number}.png", rng.integers(0, 256, (*size, 3), np.uint8))
    (tmp_path / "in/3.png").write_text("this is no PNG")
    runtime = RuntimeParams(threads=torch.get_num_threads(), device="cpu")
    seen = []
    for most in (0, 40 * 60, 2**20):
        monkeypatch.setattr("segops.inference.predict.STRIP_PX", most)
        out = tmp_path / str(most)
        done = segment_all(PredictRequest(model, runtime, TrackingParams(), [tmp_path / "in"], out, overlays=False))
        assert [image.image for image in done] == [f"{number}.png" for number in range(6)]
        assert [image.image for image in done if image.error] == ["3.png"]
        seen.append(
            ([replace(image, files=()) for image in done], {path.name: path.read_bytes() for path in out.iterdir()})
        )
    assert seen[0] == seen[1] == seen[2]


def test_a_candidate_that_tells_objects_apart_numbers_them(tmp_path: Path) -> None:
    params = brightness_params()
    inference = params.inference.model_copy(update={"instances": InstanceParams(method="components")})
    save_candidate(tmp_path / "model", brightness_program(), params.model_copy(update={"inference": inference}))
    image = np.zeros((64, 64), np.uint8)
    image[4:20, 4:20] = image[40:60, 30:50] = 255
    written = run(str(tmp_path / "model"), [write(tmp_path / "a.png", image)], tmp_path / "out")
    assert [path.name for path in written] == ["a.png", "a.objects.png"]
    found = np.asarray(Image.open(written[1]))
    expected = np.zeros((64, 64), np.uint16)
    expected[4:20, 4:20], expected[40:60, 30:50] = 1, 2
    assert np.array_equal(found, expected)
    assert Image.open(written[1]).mode == "I;16"


def test_overlays_are_written_on_request(model: str, tmp_path: Path) -> None:
    image, mask = bright_square(64, 64)
    written = run(model, [write(tmp_path / "a.png", image)], tmp_path / "out", overlays=True)
    assert [path.name for path in written] == ["a.png", "a.overlay.png"]
    overlay = np.asarray(Image.open(written[1]))
    assert overlay.shape == (64, 64, 3)
    assert np.array_equal(overlay[mask == 0], image[mask == 0])
    assert (overlay[mask == 1] != image[mask == 1]).any(axis=1).all()


def test_a_second_run_takes_no_mask_for_an_image(model: str, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.png", bright_square()[0])
    out = tmp_path / "in" / "masks"
    first = run(model, [tmp_path / "in"], out, overlays=True)
    content = [path.read_bytes() for path in first]
    assert run(model, [tmp_path / "in"], out, overlays=True) == first
    assert [path.read_bytes() for path in first] == content


def test_a_bad_file_is_named_and_the_others_are_done(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in" / "good.png", bright_square()[0])
    (tmp_path / "in" / "bad.png").write_text("this is no PNG")
    with pytest.raises(UserError, match=r"1 of 2 images can't be read \(bad.png"):
        run(model, [tmp_path / "in"], tmp_path / "out")
    assert "bad.png" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]


@pytest.mark.parametrize(("number", "ends"), [(errno.EACCES, False), (errno.ESTALE, True), (errno.EMFILE, True)])
def test_a_drive_that_fails_is_no_pictures_fault(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, ends: bool
) -> None:
    opened = open_rows

    def failing(paths: tuple[Path, ...], *given: Any) -> Any:
        if paths[0].name == "1.png":
            raise OSError(number, os.strerror(number), str(paths[0]))
        return opened(paths, *given)

    for image in range(3):
        write(tmp_path / f"in/{image}.png", bright_square()[0])
    monkeypatch.setattr("segops.commands.predict_inputs.open_rows", failing)
    with pytest.raises(OSError if ends else UserError, match=r"1\.png"):
        run(model, [tmp_path / "in"], tmp_path / "out")
    assert (tmp_path / "out/2.png").exists() is not ends


@pytest.mark.parametrize("by_rows", [False, True])
def test_a_full_disk_ends_the_work_and_is_no_pictures_fault(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], by_rows: bool
) -> None:
    for number in range(9):
        write(tmp_path / f"in/{number}.png", bright_square()[0])
    written: list[Path] = []

    def until_the_third(path: Path, *given: Any) -> None:
        written.append(path)
        if len(written) > 2:
            path.write_bytes(b"\x89PNG")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_mask(path, *given)

    monkeypatch.setattr("segops.pictures.png_file.write_mask", until_the_third)
    monkeypatch.setattr("segops.inference.predict.STRIP_PX", 0 if by_rows else 2**20)
    with pytest.raises(DiskFullError, match=r"can't write .*2\.png: no space left on its disk"):
        run(model, [tmp_path / "in"], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png"]
    assert len(written) < 9
    assert "can't" not in capsys.readouterr().err


@pytest.mark.parametrize("case", ["clash", "overwrite", "missing", "kind", "nothing"])
def test_mistakes_are_found_before_anything_is_written(model: str, tmp_path: Path, case: str) -> None:
    image, out = bright_square()[0], tmp_path / "out"
    one = write(tmp_path / "in" / "a.png", image)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    inputs, text = {
        "clash": ([one, write(tmp_path / "other" / "a.tif", image)], "would both write"),
        "overwrite": ([one], "would overwrite the input"),
        "missing": ([tmp_path / "none.png"], "no such file or folder"),
        "kind": ([tmp_path / "notes.txt"], "not a supported image"),
        "nothing": ([tmp_path / "empty"], "no image found"),
    }[case]
    before = one.read_bytes()
    with pytest.raises(UserError, match=text):
        run(model, inputs, one.parent if case == "overwrite" else out)
    assert not out.exists()
    assert one.read_bytes() == before


def test_a_folder_without_a_model_is_one_clear_line(tmp_path: Path) -> None:
    image = write(tmp_path / "a.png", bright_square()[0])
    with pytest.raises(UserError, match=r"model.json: no such file"):
        run(str(tmp_path / "nothing"), [image], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bad_file_of_any_kind_does_not_stop_the_others(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    write(folder / "good.png", bright_square(64, 64)[0])
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000), }".ljust(117) + b"\n"
    (folder / "lies.npy").write_bytes(b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header)
    (folder / "scan.dcm").write_bytes(bytes(200))
    (folder / "notes.txt").write_text("no image")
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(bright_square(64, 64)[0]).save(folder / "turned.jpg", exif=exif)
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes((folder / "good.png").read_bytes())
    with pytest.raises(UserError, match=r"^3 of 4 images can't be read"):
        run(model, [folder], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]
    said = capsys.readouterr().err
    assert "lies.npy: 1,000,000,000,000 pixels" in said
    assert "turned.jpg: its orientation tag 6 asks viewers" in said
    assert r"caf\xe9.png': a name that isn't UTF-8" in said
    assert "predict: 2 files skipped: 1 DICOM, of volumes (scan.dcm, ..), 1 .txt (notes.txt, ..)" in said


def test_16_bit_samples_are_scaled_by_the_bits_that_are_known() -> None:
    image_8, _ = bright_square(64, 64)
    image_12 = image_8.astype(np.uint16) * 16
    seen_8 = Predictor(brightness_program(), trained_model(full_scale={"uint8": 255.0}))
    with pytest.raises(
        UserError, match=rf"^16-bit samples up to {image_12.max()}, .* how many bits they use: --bits 12"
    ):
        seen_8.probability(image_12)
    expected = seen_8.probability(image_8)
    np.testing.assert_allclose(seen_8.with_bits(12).probability(image_12), expected, atol=0.02)
    seen_12 = Predictor(brightness_program(), trained_model(full_scale={"uint8": 255.0, "uint16": 4095.0}))
    np.testing.assert_allclose(seen_12.probability(image_12), expected, atol=0.02)
    with pytest.raises(UserError, match=r"^--bits: the model was trained on 16-bit samples in which 4095 counts as 1"):
        seen_12.with_bits(14)
    with pytest.raises(UserError, match=r"training images 4095 counts as white; give it images on the same scale"):
        seen_12.probability(image_12 * 16)
    hot = image_12.copy()
    hot[0, 0] = 60_000
    seen_12.probability(hot)  # a single hot pixel is no other scale


def test_an_image_that_is_a_folder_is_predicted_like_any(model: str, tmp_path: Path) -> None:
    grey_HW = bright_square(64, 64)[0]
    grey_HW = grey_HW if grey_HW.ndim == 2 else grey_HW[..., 0]
    folder = write_zarr(tmp_path / "in" / "a.ome.zarr", grey_HW, "yx")
    write(tmp_path / "in" / "b.png", grey_HW)
    run(model, [tmp_path / "in"], tmp_path / "out")
    run(model, [folder], tmp_path / "alone")
    masks = [np.asarray(Image.open(tmp_path / place)) for place in ("out/a.ome.png", "out/b.png", "alone/a.ome.png")]
    for mask_HW in masks:
        np.testing.assert_array_equal(mask_HW, masks[0])


def test_each_of_many_files_is_asked_for_a_few_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_candidate(tmp_path / "model", brightness_program(), brightness_params())
    files = [tmp_path / f"{number}.png" for number in range(40)]
    for path in files:
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    asked, is_dir = [], Path.is_dir

    def counted(path: Path) -> bool:
        asked.append(path)
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", counted)
    request = PredictRequest(
        str(tmp_path / "model"), RuntimeParams(threads=1), TrackingParams(), files, tmp_path / "out", overlays=False
    )
    assert len(predict(request)) == len(files)
    assert len(asked) < 10 * len(files)  # 40 for each, once, since each was held against each
