"""Images are opened ahead of their use, in order, and folders are listed at a cost that grows with their files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from segops.commands.predict_inputs import opened_ahead, plan
from segops.data.image_rows import ImageRows
from segops.errors import UserError


def test_the_next_image_is_opened_while_one_is_in_use_and_closed_after_its_own() -> None:
    log, opened = [], [threading.Event() for _ in range(3)]

    @contextmanager
    def image(number: int) -> Iterator[ImageRows]:
        if number == 1:
            opened[number].set()
            raise UserError("1 can't be read")
        opened[number].set()
        yield ImageRows.of(np.full((1, 1, 1), number, np.uint8))
        log.append(f"closed {number}")

    openers = [partial(image, number) for number in range(3)]
    for number, get in enumerate(opened_ahead(openers)):
        if number < 2:
            assert opened[number + 1].wait(timeout=10)
        try:
            log.append(f"used {get().whole().item()}")
        except UserError as error:
            log.append(str(error))
    assert log == ["used 0", "closed 0", "1 can't be read", "used 2", "closed 2"]


def test_several_images_are_opened_ahead_in_order() -> None:
    opened: list[int] = []

    @contextmanager
    def image(number: int) -> Iterator[ImageRows]:
        opened.append(number)
        yield ImageRows.of(np.full((1, 1, 1), number, np.uint8))

    used = []
    for get in opened_ahead((partial(image, number) for number in range(7)), ahead=3):
        used.append(get().whole().item())
        assert len(opened) <= used[-1] + 4
    assert used == opened == list(range(7))


def test_a_folder_is_asked_for_once_and_not_for_each_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in range(60):
        (tmp_path / f"{name}.png").touch()
    asked: list[Path] = []
    resolve = Path.resolve

    def noted(path: Path) -> Path:
        asked.append(path)
        return resolve(path)

    monkeypatch.setattr(Path, "resolve", noted)
    assert len(plan([tmp_path], tmp_path / "out", overlays=True)) == 60
    assert len(asked) < 10


def test_earlier_masks_below_the_folder_are_no_images(tmp_path: Path) -> None:
    for name in ("a.png", "out/a.png", "out/deeper/a.png", "sub/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in plan([tmp_path], tmp_path / "out", overlays=False)] == ["a.png", "b.png"]
