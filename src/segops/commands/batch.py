"""Runs batch inference: a whole source of images through a registered model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from segops.commands.predict import PredictRequest, segment_all, write_predictions
from segops.commands.segment import Segmented
from segops.contracts.tables import PREDICTIONS_FILE
from segops.data.decoders.kinds import data_of_headers, image_suffix
from segops.data.images import IMAGE_SUFFIXES
from segops.data.parallel import ALL, Part
from segops.data.part_files import PART_FILES, load_parts, save_part, work_of
from segops.data.sources.source import FolderSource, open_source
from segops.data.volumes.dicom import is_dicom
from segops.errors import UserError, reworded
from segops.files import output_folder
from segops.params.batch import BatchParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams

_STAGE = "predict"


def batch(
    params: BatchParams,
    runtime: RuntimeParams,
    tracking: TrackingParams,
    *,
    masks: Path,
    part: Part = ALL,
) -> list[Segmented]:
    """Write masks of a source's images, and predictions.csv beside them.

    An image that can't be read doesn't stop the others: its row has the reason.

    Args:
        part: of the images, which are segmented; `join_batch` joins what parts wrote.

    Raises:
        UserError: no source or model is named or there, or no image can be read.
    """
    if params.source is None:
        raise UserError("batch.source isn't set; name the images in params.yaml, or with --set batch.source=s3://..")
    with _images(params.source, params.sha256) as folder:
        request = PredictRequest(
            params.model, runtime, tracking, [folder], masks, params.overlays, params.bits, params.backend
        )
        with reworded(lambda text: text.replace("--backend", "batch.backend")):
            done = segment_all(request, part)
    if part.parts == 1:
        _require_masks(done, params.source)
    masks.mkdir(parents=True, exist_ok=True)
    write_predictions(done, masks)
    if part.parts > 1:
        save_part(masks, _STAGE, part, work_of(params))
    return done


def join_batch(parts: Sequence[Path], params: BatchParams, *, masks: Path) -> list[Segmented]:
    """Join what `batch` wrote for each part of a source's images to what it writes for all.

    Raises: UserError: a part lacks, is damaged, or is of other params; no image can be read.
    """
    import pandas as pd

    left_out = shutil.ignore_patterns(PREDICTIONS_FILE, *PART_FILES)
    with output_folder(masks) as folder:
        for number, (part, _) in enumerate(load_parts(parts, _STAGE, work_of(params))):
            shutil.copytree(part, folder, ignore=left_out, dirs_exist_ok=True)
            header, rows = (part / PREDICTIONS_FILE).read_bytes().split(b"\n", 1)
            with (folder / PREDICTIONS_FILE).open("ab") as table:
                table.write(rows if number else header + b"\n" + rows)
        read = pd.read_csv(folder / PREDICTIONS_FILE, dtype=str, keep_default_na=False)[["image", "error"]]
        done = [Segmented(image, error=error or None) for image, error in read.itertuples(index=False)]
        _require_masks(done, str(params.source))
    return done


def _require_masks(done: Sequence[Segmented], source: str) -> None:
    """Raise UserError where no image can be read."""
    if all(image.error for image in done):
        raise UserError(f"batch.source: {source}: none of {len(done)} images can be read; see above")


@contextmanager
def _images(uri: str, sha256: str | None) -> Iterator[Path]:
    """Open a folder with a source's images; it is temporary where they come out of an archive."""
    with TemporaryDirectory(prefix="segops-") as name:
        scratch, unpacked = Path(name), Path(name) / "images"
        with (
            reworded(lambda text: text.replace("ingest.", "batch.")),  # a source's params by their names here
            open_source(uri, scratch=scratch, sha256=sha256) as source,
        ):
            if isinstance(source, FolderSource):
                yield source.folder
                return
            data = data_of_headers(source.names, source.names)
            for member in source.names:  # which open_source has refused where they point outside
                content = source.read(member)
                if image_suffix(member) in IMAGE_SUFFIXES or member in data or is_dicom(content):
                    path = unpacked / member
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
        if not unpacked.is_dir():
            raise UserError(f"batch.source: {uri}: no image found; supported are {', '.join(sorted(IMAGE_SUFFIXES))}")
        yield unpacked


def batch_note(done: list[Segmented], source: str) -> str:
    """Word a batch in markdown: how many masks of what, and which images can't be read."""
    bad = [image for image in done if image.error]
    lines = [f"**{len(done) - len(bad)} masks** of {source}."]
    if bad:
        lines += ["", f"{len(bad)} can't be read:", "", *(f"- {image.error}" for image in bad[:20])]
    return "\n".join([*lines, ""])
