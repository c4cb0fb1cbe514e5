"""Other packages' methods beside ours: who sees which pixels, how masks are scored, and how many epochs fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.anchors import scores
from benchmarks.anchors.__main__ import print_table
from benchmarks.anchors.candidates import Candidate
from benchmarks.anchors.foreign import FIGURES, Task, mask_of, read_image, write_masks
from segops.data.arrays import PreparedData
from tests.support.tiny_prepared import write_prepared


@pytest.fixture
def data(tmp_path: Path) -> PreparedData:
    return PreparedData.open(write_prepared(tmp_path / "prepared"))


def _task(out: Path, pixels: Path) -> Task:
    out.mkdir()
    (out / FIGURES).write_text('{"versions": {"package": "1.0"}, "minutes": {"train": 2}, "epochs": 3}')
    return Task(pixels, out, minutes=1, seed=0, variant={})


def test_other_packages_get_every_image_but_no_mask_of_test(data: PreparedData, tmp_path: Path) -> None:
    scores.write_pixels(data, tmp_path / "pixels")

    task = Task(tmp_path / "pixels", tmp_path, minutes=1, seed=0, variant={})
    assert [len(task.images(subset)) for subset in ("train", "val", "test")] == [10, 4, 2]
    row = data.rows("val")[0]
    np.testing.assert_array_equal(read_image(task.images("val")[0]), data.image(row))
    np.testing.assert_array_equal(read_image(mask_of(task.images("val")[0])), data.mask(row))
    assert not any(mask_of(path).exists() for path in task.images("test"))


def test_masks_are_scored_at_native_size_and_set_beside_ours(
    data: PreparedData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores.write_pixels(data, tmp_path / "pixels")
    perfect, blank = (_task(tmp_path / f"{name}-0", tmp_path / "pixels") for name in ("ours", "nnunet"))
    write_masks(perfect, lambda image_HWC: image_HWC[..., 0] > 100)  # discs are 180 and more, the ground below 80
    write_masks(blank, lambda image_HWC: np.zeros(image_HWC.shape[:2]))

    print_table(data, tmp_path)

    printed = capsys.readouterr().out.splitlines()
    assert "| ours | 1 | 2.0 | 3 |  | 1.000 (1.000 to 1.000) | 1.000 (1.000 to 1.000) |  |" in printed
    assert (
        "| nnunet | 1 | 2.0 | 3 |  | 0.000 (0.000 to 0.000) | 0.000 (0.000 to 0.000) | +1.000 (+1.000 to +1.000) |"
        in printed
    )


class _Costs(Candidate):
    """Costs 10 s, 4 s an epoch, 2 s where it is cheap, and 30 s for the caches at first."""

    def trial(self, epochs: int, cheap: int = 0) -> float:
        return 10 + 4 * epochs - 2 * cheap + (30 if epochs == 1 else 0)


@pytest.mark.parametrize(
    ("name", "epochs"), [("ours", 22), ("ours_small", 30), ("lite_pretrained", 25), ("lite_frozen", 45)]
)
def test_epochs_fill_the_cpu_time(name: str, epochs: int, tmp_path: Path) -> None:
    assert _Costs(name, tmp_path, seed=0).epochs_within(100) == epochs


@pytest.mark.parametrize(("minutes", "epochs"), [(2, 7), (3, 42)])
def test_another_seed_has_the_epochs_of_the_same_budget(minutes: float, epochs: int, tmp_path: Path) -> None:
    (tmp_path / "ours-0").mkdir()
    (tmp_path / "ours-0" / FIGURES).write_text('{"budget": 2, "epochs": 7}')

    assert _Costs("ours", tmp_path / "ours-1", seed=1).epochs_of(minutes) == epochs
