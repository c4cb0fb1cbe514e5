"""Bad input to ingest: one line that names the file, and nothing half-written."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.stages.test_ingest import complaint, outputs, run, tiff
from tests.support.factories import make_pairs, tar_folder, write_image, zip_folder


def overwrite(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda raw: (raw / name).write_bytes(content)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (overwrite("images/001.png", b"hello"), "images/001.png: not an image of a known kind"),
    "empty file": (overwrite("masks/001.png", b""), "masks/001.png: the file is empty"),
    "truncated": (
        lambda raw: overwrite("images/001.png", (raw / "images/001.png").read_bytes()[:-300])(raw),
        "images/001.png: damaged or truncated PNG",
    ),
    "complex": (
        overwrite("images/001.png", tiff(np.zeros((4, 4), complex))),
        "images/001.png: TIFF of complex128 samples",
    ),
    "image without mask": (lambda raw: (raw / "masks/001.png").unlink(), "1 image without mask: images/001.png"),
    "mask without image": (lambda raw: (raw / "images/001.png").unlink(), "1 mask without image: masks/001.png"),
    "varying alpha": (
        lambda raw: Image.fromarray(np.arange(64, dtype=np.uint8).reshape(4, 4, 4)).save(raw / "images/001.png"),
        "images/001.png: its alpha channel varies (3 to 63)",
    ),
    "coloured mask": (
        lambda raw: Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(raw / "masks/001.png"),
        "masks/001.png: a coloured mask",
    ),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("pack", [None, zip_folder, tar_folder], ids=["folder", "zip", "tgz"])
def test_bad_input_is_one_line_that_names_the_file_and_leaves_nothing(
    bad: str, pack: Callable[[Path, Path], Path] | None, tmp_path: Path
) -> None:
    spoil, message = BAD[bad]
    raw = make_pairs(tmp_path / "raw", n=2)
    spoil(raw)
    source = pack(raw, tmp_path / ("raw.zip" if pack is zip_folder else "raw.tgz")) if pack else raw
    assert complaint(source, tmp_path / "d").startswith(message)


def test_a_failed_ingest_leaves_the_earlier_dataset_as_it_was(tmp_path: Path) -> None:
    raw = make_pairs(tmp_path / "raw", n=2)
    run(raw, tmp_path / "d")
    before = outputs(tmp_path / "d")
    (raw / "images" / "000.png").write_bytes(b"hello")
    complaint(raw, tmp_path / "d")
    assert outputs(tmp_path / "d") == before


def test_an_empty_source_a_missing_one_and_another_hash_are_errors(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    assert "holds no files" in complaint(tmp_path / "raw", tmp_path / "d")
    assert "no such file or folder" in complaint(tmp_path / "gone.zip", tmp_path / "d")
    make_pairs(tmp_path / "raw")
    assert complaint(tmp_path / "raw", tmp_path / "d", sha256="a" * 64).startswith("ingest.sha256: raw has ")


def test_masks_of_one_image_must_have_one_size(tmp_path: Path) -> None:
    write_image(tmp_path / "raw" / "images" / "a.png", np.zeros((4, 4, 1), np.uint8))
    for name, size in (("1", 4), ("2", 5)):
        write_image(tmp_path / "raw" / "masks" / "a" / f"{name}.png", np.zeros((size, 4), np.uint8))
    assert complaint(tmp_path / "raw", tmp_path / "d").startswith("masks/a/2.png: 5x4 pixels")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from segops.errors import OneLineError
from segops.stages.ingest import ingest
from segops.params.ingest import IngestParams
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # no file grows further: as on a full disk
try:
    ingest(IngestParams(source=sys.argv[2]), dataset=Path(sys.argv[3]))
except OneLineError as error:
    print(type(error).__name__)
"""


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, root: Path) -> None:
    raw = make_pairs(tmp_path / "raw", n=8, size=96)
    source = [sys.executable, "-c", FULL_DISK, str(root / "src"), str(raw), str(tmp_path / "d")]
    result = subprocess.run(source, capture_output=True, text=True, check=True)
    assert result.stdout == "DiskFullError\n"
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
