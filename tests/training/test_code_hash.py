"""The hash of the code that decides weights and cached files."""

from __future__ import annotations

import shutil
from pathlib import Path

import grimp
import pytest

import segops
from segops.commands.code import write_code_hashes
from segops.training.checkpoint import WITHOUT_INFLUENCE, derivation_sha256, training_code_sha256
from segops.training.code_hash import code_hashes, imported_sources

TRAIN = "segops.stages.train"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package that hashes are taken of."""
    folder = tmp_path / "segops"
    shutil.copytree(Path(segops.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(segops, "__file__", str(folder / "__init__.py"))
    return folder


def changed(package: Path, name: str, addition: str = "\nSOMETHING = 1\n") -> str:
    """The training's code hash while a module has one more line."""
    path = package.joinpath(*name.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    before = file.read_text()
    file.write_text(before + addition)
    digest = training_code_sha256()
    file.write_text(before)
    return digest


def test_any_change_of_a_module_that_decides_weights_is_another_key(package: Path) -> None:
    before = training_code_sha256()
    names = imported_sources(package, TRAIN, without=WITHOUT_INFLUENCE).keys()
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


@pytest.mark.parametrize(
    "addition",
    ["\n\n\n", "\n# Why.\n", '\n"""A string that is a statement."""\n', "\n    # Indented.   \n"],
    ids=["blank lines", "comment", "string", "indented comment"],
)
def test_words_in_a_module_that_decides_weights_train_nothing_anew(package: Path, addition: str) -> None:
    assert changed(package, "segops.training.losses", addition) == training_code_sha256()


_TWO_WAYS = (
    '''"""Says what."""


def mean(values):  # of floats
    """Return the mean."""
    # Sums first.
    return sum(values) / len(values), "# no comment", f"{values!r} # neither"
''',
    """def mean(values):
    return sum(values) / len(values), "# no comment", f"{values!r} # neither"
""",
)


def test_a_module_without_its_words_has_the_same_hash(package: Path) -> None:
    digests = set()
    for text in (*_TWO_WAYS, _TWO_WAYS[1].replace("# neither", "# either")):
        (package / "words.py").write_text(text)
        digests.add(code_hashes("segops.words")["segops.words"])
    assert len(digests) == 2, "strings that are values count, with what looks like a comment in them"


def test_blanks_inside_a_string_that_is_a_value_count(package: Path) -> None:
    digests = set()
    for text in ("a\nb", "a\n\nb", "a \nb", "a\n# b"):
        (package / "words.py").write_text(f'"""Says é."""\nWORDS = """{text}\n"""  # says é\n')
        digests.add(code_hashes("segops.words")["segops.words"])
    assert len(digests) == 4


def test_code_on_the_line_of_a_docstring_counts(package: Path) -> None:
    digests = []
    for text in (
        'class Gap: "é"; size = 1',
        'class Gap: "gap"; size = 1',
        'class Gap: "é"; size = 2',
        'class Hole: "é"',
    ):
        (package / "words.py").write_text(f"{text}\n")
        digests.append(code_hashes("segops.words")["segops.words"])
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def written(package: Path, folder: Path) -> dict[str, str]:
    write_code_hashes(folder)
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("reports/templates/gallery.html.j2", {"evaluate"}),
        ("reports/templates/style.css", {"validate", "split", "tune", "evaluate", "compare"}),  # by page.html.j2
        ("reports/templates/model_card.md.j2", {"register"}),
        ("reports/templates/drift.html.j2", set()),
        ("reports/comparison_page.py", {"compare"}),
        ("data/layouts/bids.py", {"ingest"}),
        ("training/losses.py", {"tune", "train"}),
        ("progress.py", set()),
        ("cli/printing.py", set()),
    ],
)
def test_an_edit_runs_the_stages_that_depend_on_it(package: Path, tmp_path: Path, file: str, stages: set[str]) -> None:
    before = written(package, tmp_path / "code")
    path = package / file
    path.write_text(path.read_text() + "\nSOMETHING = 1\n")
    after = written(package, tmp_path / "code")
    assert {name for name in before if after[name] != before[name]} == stages


def test_the_modules_are_those_of_the_import_graph() -> None:
    graph = grimp.build_graph("segops", exclude_type_checking_imports=True, cache_dir=None)
    expected, waiting = {TRAIN}, [TRAIN]
    while waiting:
        for name in graph.find_modules_directly_imported_by(waiting.pop()) - expected:
            if not name.startswith(WITHOUT_INFLUENCE):
                expected.add(name)
                waiting.append(name)
    imported = imported_sources(Path(segops.__file__).parent, TRAIN, without=WITHOUT_INFLUENCE).keys()
    assert expected <= imported
    assert all(any(name.startswith(f"{package}.") for name in expected) for package in imported - expected)


def test_a_new_import_counts(package: Path) -> None:
    before = derivation_sha256("segops.training.batches.resized")
    (package / "helper.py").write_text("FACTOR = 1\n")
    with (package / "inference" / "windows.py").open("a") as file:
        file.write("\ndef late():\n    from segops.helper import FACTOR\n    return FACTOR\n")
    with_import = derivation_sha256("segops.training.batches.resized")
    (package / "helper.py").write_text("FACTOR = 2\n")
    assert len({before, with_import, derivation_sha256("segops.training.batches.resized")}) == 3
