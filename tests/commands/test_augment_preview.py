"""The page that shows a candidate's augmentation."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from segops.commands.augment_preview import augment_preview
from segops.contracts.base import Subset
from segops.data.arrays import PreparedData
from segops.params.augment import AugmentParams
from segops.params.candidate import CandidateParams
from segops.params.runtime import RuntimeParams
from segops.training.augmentation.augment import augment
from segops.training.augmentation.extremes import _TURNS, extremes, on_and_off
from tests.support.tiny_prepared import SUBSETS, write_prepared
from tests.support.tiny_volumes import prepared_volumes

OFF: dict[str, Any] = {"flip": False, "rot90": False}


def candidate(resize: str = "stretch", **given: Any) -> CandidateParams:
    return CandidateParams.model_validate(
        {
            "model": {"architecture": "unet"},
            "input": {"size": 32, "resize": resize},
            "recipe": {"augment": given, "patches_per_image": 2},
        }
    )


def written(tmp_path: Path, params: CandidateParams, name: str = "page", **given: Any) -> str:
    prepared = tmp_path / "prepared"
    if not prepared.exists():
        write_prepared(prepared)
    page = tmp_path / "reports" / f"{name}.html"
    augment_preview("net", params, RuntimeParams(threads=1, device="cpu"), prepared=prepared, page=page, **given)
    return page.read_text()


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))  # where the cache goes


def test_the_page_is_one_file_with_every_image_version_and_element(tmp_path: Path) -> None:
    params = candidate(**OFF, rotate_deg=20, noise=0.1)
    page = written(tmp_path, params, images=2, versions=4)
    assert page.count("<img ") == 2 * (1 + 4) + 2 * 3  # rotation to both sides, noise
    assert all(uri.startswith("data:image/png;base64,") for uri in re.findall(r'src="([^"]+)"', page))
    assert not re.search(r'(src|href)="http', page)
    for text in ("rotate_deg -20", "rotate_deg +20", "noise 0.1", "Off: flip, rot90, scale"):
        assert text in page
    assert "noise_probability" not in page, "a detail at its default says nothing"


@pytest.mark.parametrize("resize", ["stretch", "pad", "none"])
def test_the_same_params_give_the_same_page_and_another_seed_another(tmp_path: Path, resize: str) -> None:
    params = candidate(resize, **OFF, rotate_deg=20, noise=0.1)
    page = written(tmp_path, params, "one", images=1, versions=2)
    assert written(tmp_path, params, "again", images=1, versions=2) == page
    other = params.model_copy(update={"recipe": params.recipe.model_copy(update={"seed": 1})})
    assert written(tmp_path, other, "other", images=1, versions=2) != page


@pytest.mark.parametrize("resize", ["stretch", "none"])
def test_only_training_images_are_shown_and_test_images_never_read(
    tmp_path: Path, resize: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def guarded(read: Any) -> Any:
        def call(self: PreparedData, row: int) -> Any:
            allowed: tuple[Subset, ...] = ("train",) if resize == "none" else ("train", "val")  # resized together
            assert SUBSETS[row] in allowed
            return read(self, row)

        return call

    for name in ("image", "mask"):
        monkeypatch.setattr(PreparedData, name, guarded(getattr(PreparedData, name)))
    page = written(tmp_path, candidate(resize, **OFF), images=24, versions=1)
    shown = set(re.findall(r"<h3>(\w+)", page))
    assert shown == {f"i{row:02}" for row, subset in enumerate(SUBSETS) if subset == "train"}


def test_without_augmentation_it_says_so(tmp_path: Path) -> None:
    page = written(tmp_path, candidate(**OFF), images=1, versions=1)
    assert "None is on" in page
    uris = re.findall(r'src="([^"]+)"', page)
    assert len(uris) == 2
    assert uris[0] == uris[1]


def test_patches_of_volumes_are_shown_by_three_planes(tmp_path: Path) -> None:
    prepared_volumes(tmp_path)  # 24 x 24 voxels in 10 slices
    patch = {
        "size": [8, 16, 12],
        "resize": "none",
        "channels": 1,
        "spacing_mm": [3, 1, 1],
        "clip": {"window": [0, 700]},
    }
    params = CandidateParams.model_validate(
        {
            "model": {"architecture": "unet_3d", "depth": 1},
            "input": patch,
            "recipe": {"augment": {"flip": True, "rot90": False, "rotate_deg": 20.0, "scale": 0.2}},
        }
    )
    page = written(tmp_path, params, images=2, versions=2)
    assert "8x16x12 voxels" in page
    elements = ["feet to head", "back to front", "left to right", "rotate_deg -20", "rotate_deg +20", "0.80", "1.20"]
    assert all(text in page for text in elements)
    uris = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(uris) == 2 * (1 + 2) + 2 * len(elements)
    # At 3 x 1 x 1 mm: axial 16 x 12 px, coronal 24 x 12 and sagittal 24 x 16, each with a gap of two pixels.
    heights = {Image.open(io.BytesIO(base64.b64decode(uri))).size for uri in uris}
    assert len(heights) == 1
    width_px, height_px = heights.pop()
    assert width_px / height_px == pytest.approx((12 + 12 + 16 + 3 * 2) / 24, abs=0.01)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (4.0, 1.0, 1.0)])
def test_extremes_of_volumes_are_what_training_draws(spacing_mm: tuple[float, float, float]) -> None:
    """Each turn alone, out of the slices only where training would; a turn in mm maps a cube's voxels onto itself."""
    size, params = (8, 8, 8), AugmentParams(**OFF, rotate_deg=90)
    turned = dict(extremes(params, size, spacing_mm))
    assert len(turned) == (6 if spacing_mm[0] == 1 else 2)
    volume_1CDHW = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
    mask_1DHW = torch.zeros(1, *size, dtype=torch.uint8)
    planes = {"rotate_deg +90": (-1, -2)}
    if spacing_mm[0] == 1:
        planes |= {f"rotate_deg +90{about}": axes for about, axes in zip(_TURNS[1:], ((-1, -3), (-2, -3)), strict=True)}
    for label, axes in planes.items():
        image_1CDHW, _ = augment(volume_1CDHW, mask_1DHW, turned[label])
        quarters = [torch.rot90(volume_1CDHW, number, axes) for number in (1, 3)]
        assert any(torch.allclose(image_1CDHW, quarter, atol=1e-5) for quarter in quarters), label


def test_every_element_has_its_extremes_and_each_changes_the_image() -> None:
    ranges = {"rotate_deg": 20.0, "elastic_px": 3.0, "blur_px": 2.0}
    names = [name for name in AugmentParams.model_fields if not name.endswith(("_probability", "_grid", "_at"))]
    image_1CHW = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mask_1HW = (image_1CHW[:, 0] > 0.5).to(torch.uint8)
    for name in names:
        value = True if name in OFF else ranges.get(name, 0.3)
        params = AugmentParams(**OFF | {name: value})
        made = list(extremes(params, (32, 32)))
        assert made, name
        assert on_and_off(params) == ({name: value}, [one for one in names if one != name])
        for label, changes in made:
            assert not torch.equal(augment(image_1CHW, mask_1HW, changes)[0], image_1CHW), label
    assert not list(extremes(AugmentParams(**OFF), (32, 32)))
