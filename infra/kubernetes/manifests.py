"""The manifests' three chores, from the repository's root:

python -m infra.kubernetes.manifests secrets local      # random passwords for an overlay, once
python -m infra.kubernetes.manifests render             # write rendered/, which tests and scans read
python -m infra.kubernetes.manifests ready production   # refuse what it leaves open, and serving but for --alone
"""

from __future__ import annotations

import base64
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

HERE = Path(__file__).parent
EXAMPLE, RENDERED = HERE / "secrets.env.example", HERE / "rendered"
OVERLAYS = ("local", "production")
PRODUCTION, SERVING, TRAIN_JOB, WORKSPACES, TEAM = "production", "serving", "train-job", "workspaces", "team"
# Each goes beside one of the others where it is wanted, or is made of it, and has no secrets of its own.
BESIDE = (SERVING, TRAIN_JOB, WORKSPACES, TEAM)
PLACEHOLDER, SECRET_BYTES = "replace-me", 24
KEY_PLACEHOLDER, KEY_BYTES = "replace-me-with-32-bytes", 32


def secrets_file(overlay: str, root: Path = HERE) -> Path:
    """Where an overlay's passwords stand, out of git."""
    return root / "overlays" / overlay / "secrets" / "secrets.env"


def fill(example: str) -> str:
    """The example with a random value in place of each placeholder: hexadecimal, or a key in URL-safe base64."""
    made = re.sub(rf"={PLACEHOLDER}$", lambda _: f"={secrets.token_hex(SECRET_BYTES)}", example, flags=re.MULTILINE)
    return re.sub(rf"={KEY_PLACEHOLDER}$", lambda _: f"={_key()}", made, flags=re.MULTILINE)


def _key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def write_secrets(overlay: str) -> Path:
    """Write an overlay's secrets for their owner alone; what is there stays."""
    path = secrets_file(overlay)
    if path.exists():
        sys.exit(f"{path} is there; to rotate a password change its line, and see infra/kubernetes/README.md")
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(fill(EXAMPLE.read_text(encoding="utf-8")), encoding="utf-8")
    return path


def kustomize(folder: Path) -> str:
    """What `kubectl kustomize` prints."""
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if done.returncode:
        sys.exit(f"{folder}: {done.stderr.strip()}")
    return done.stdout


def rendered(overlay: str) -> str:
    """An overlay with the example's placeholders as its secrets, so that it may stand in git."""
    with TemporaryDirectory() as name:
        copy = Path(name) / "kubernetes"
        shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns("secrets.env", "rendered"))
        for own in OVERLAYS:
            shutil.copyfile(EXAMPLE, secrets_file(own, copy))
        return kustomize(copy / "overlays" / overlay)


def left_open(text: str, digests: bool = True) -> Iterator[str]:
    """What a rendered overlay must not be applied with, a line each; `digests`: whether images need one."""
    objects = [one for one in yaml.safe_load_all(text) if one]
    for image in sorted(set(images(objects))):
        name, _, digest = image.partition("@")
        if digest and not re.fullmatch("sha256:[0-9a-f]{64}", digest):
            yield f"image {image}: set its digest under `images:` in kustomization.yaml"
        elif not digest and re.fullmatch(r".*:(?!latest$)[^:/]+", name) is None:
            yield f"image {image}: another one tomorrow; name a release, or better a digest, under `images:`"
        elif digests and not digest:
            yield f"image {image}: a tag may be moved; set a digest under `images:` in kustomization.yaml"
    names = sorted(set(re.findall(r"[a-z0-9.-]*\bexample\.(?:org|com|net)\b", text)))
    yield from (f"{name}: a placeholder for a name of your own" for name in names)
    for one in objects:
        if one["kind"] == "Secret":
            given = {key: base64.b64decode(value).decode() for key, value in (one.get("data") or {}).items()}
            for key, value in {**given, **(one.get("stringData") or {})}.items():
                if value in ("", PLACEHOLDER, KEY_PLACEHOLDER):
                    yield f"secret {one['metadata']['name']}: {key} has no value of its own; see secrets.env.example"


def problems(overlay: str, alone: bool) -> Iterator[str]:
    """What is open in an overlay and, unless it is to be applied `alone`, in what stands beside production."""
    owner = PRODUCTION if overlay == WORKSPACES else overlay
    if owner in OVERLAYS and not secrets_file(owner).exists():
        yield f"{secrets_file(owner)} isn't there: make kubernetes-secrets OVERLAY={owner}"
        return
    yield from left_open(kustomize(HERE / "overlays" / overlay), digests=overlay in (PRODUCTION, *BESIDE))
    if overlay == PRODUCTION and not alone:
        yield from (f"overlay {SERVING}: {line}" for line in problems(SERVING, alone=True))


def images(value: Any) -> Iterator[str]:
    """Every `image:` in parsed YAML."""
    if isinstance(value, dict):
        if isinstance(value.get("image"), str):
            yield value["image"]
        for one in value.values():
            yield from images(one)
    elif isinstance(value, list):
        for one in value:
            yield from images(one)


def main() -> None:
    """See the module's docstring."""
    task, overlay = [*sys.argv[1:], "", ""][:2]
    if task == "render":
        RENDERED.mkdir(exist_ok=True)
        for name in (*OVERLAYS, *BESIDE):
            (RENDERED / f"{name}.yaml").write_text(rendered(name), encoding="utf-8")
    elif task == "secrets" and overlay in OVERLAYS:
        sys.stdout.write(f"{write_secrets(overlay)}: random passwords; keep a copy in your team's vault\n")
    elif task == "ready" and overlay in (*OVERLAYS, *BESIDE):
        if found := list(problems(overlay, alone="--alone" in sys.argv)):
            sys.exit("\n".join(["not ready to apply:", *found]))
    else:
        named, beside = ", ".join(OVERLAYS), ", ".join(BESIDE)
        sys.exit(
            f"usage: manifests.py render | secrets OVERLAY | ready OVERLAY [--alone]; {named} (ready: {beside} too)"
        )


if __name__ == "__main__":
    main()
