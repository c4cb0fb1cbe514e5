"""The hash of the code that decides weights and cached files."""

from __future__ import annotations

import shutil
from pathlib import Path

import grimp
import pytest

import segops
from segops.training.checkpoint import WITHOUT_INFLUENCE, derivation_sha256, training_code_sha256
from segops.training.code_hash import imported_modules

TRAIN = "segops.stages.train"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package that hashes are taken of."""
    folder = tmp_path / "segops"
    shutil.copytree(Path(segops.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(segops, "__file__", str(folder / "__init__.py"))
    return folder


def changed(package: Path, name: str) -> str:
    """The training's code hash while a module has one more line."""
    path = package.joinpath(*name.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    before = file.read_bytes()
    file.write_bytes(before + b"\nSOMETHING = 1\n")
    found = training_code_sha256()
    file.write_bytes(before)
    return found


def test_any_change_of_a_module_that_decides_weights_is_another_key(package: Path) -> None:
    before = training_code_sha256()
    names = imported_modules(package, TRAIN, without=WITHOUT_INFLUENCE)
    decisive = ["data.images", "data.arrays", "data.intensities", "inference.preprocess", "inference.enhance"]
    decisive += ["inference.tta", "inference.windows", "evaluation.metrics", "training.losses", "models.unet"]
    assert {f"segops.{name}" for name in decisive} <= names
    unchanged = [name for name in sorted(names) if changed(package, name) == before]
    assert unchanged == []
    assert training_code_sha256() == before


def test_words_pages_and_colours_train_nothing_anew(package: Path) -> None:
    before = training_code_sha256()
    for name in (
        "tracking.live",
        "reports.pages",
        "pictures.images",
        "params.colours",
        "progress",
        "stages.compare",
        "cli.main",
    ):
        assert changed(package, f"segops.{name}") == before, name


def test_the_modules_are_those_of_the_import_graph() -> None:
    graph = grimp.build_graph("segops", exclude_type_checking_imports=True, cache_dir=None)
    expected, waiting = {TRAIN}, [TRAIN]
    while waiting:
        for name in graph.find_modules_directly_imported_by(waiting.pop()) - expected:
            if not name.startswith(WITHOUT_INFLUENCE):
                expected.add(name)
                waiting.append(name)
    found = imported_modules(Path(segops.__file__).parent, TRAIN, without=WITHOUT_INFLUENCE)
    packages = {name for name in found if not expected & {name}}
    assert expected <= found
    assert all(any(name.startswith(f"{one}.") for name in expected) for one in packages), "packages of modules alone"


def test_a_new_import_counts(package: Path) -> None:
    before = derivation_sha256("segops.training.batches.resized")
    (package / "helper.py").write_text("FACTOR = 1\n")
    with (package / "inference" / "windows.py").open("a") as file:
        file.write("\ndef late():\n    from segops.helper import FACTOR\n    return FACTOR\n")
    with_import = derivation_sha256("segops.training.batches.resized")
    (package / "helper.py").write_text("FACTOR = 2\n")
    assert len({before, with_import, derivation_sha256("segops.training.batches.resized")}) == 3
