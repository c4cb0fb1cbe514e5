"""Runs batch inference: a whole source of images through a registered model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from segops.commands.predict import PredictRequest, segment_all, write_predictions
from segops.commands.segment import Segmented
from segops.data.decoders.kinds import image_suffix
from segops.data.images import IMAGE_SUFFIXES
from segops.data.sources.source import FolderSource, open_source
from segops.data.volumes.dicom import is_dicom
from segops.errors import UserError
from segops.params.batch import BatchParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams


def batch(params: BatchParams, runtime: RuntimeParams, tracking: TrackingParams, *, masks: Path) -> list[Segmented]:
    """Write masks of a source's images, and predictions.csv beside them.

    An image that can't be read doesn't stop the others: its row has the reason.

    Raises:
        UserError: no source or model is named or there, or no image can be read.
    """
    if params.source is None:
        raise UserError("batch.source isn't set; name the images in params.yaml, or with --set batch.source=s3://..")
    with _images(params.source, params.sha256) as folder:
        request = PredictRequest(
            params.model, runtime, tracking, [folder], masks, params.overlays, params.bits, params.backend
        )
        try:
            done = segment_all(request)
        except UserError as error:
            raise UserError(str(error).replace("--backend", "batch.backend")) from None
    if all(image.error for image in done):
        raise UserError(f"batch.source: {params.source}: none of {len(done)} images can be read; see above")
    write_predictions(done, masks)
    return done


@contextmanager
def _images(uri: str, sha256: str | None) -> Iterator[Path]:
    """Open a folder with a source's images; it is temporary where they come out of an archive."""
    with TemporaryDirectory(prefix="segops-") as name:
        scratch, unpacked = Path(name), Path(name) / "images"
        try:
            with open_source(uri, scratch=scratch, sha256=sha256) as source:
                if isinstance(source, FolderSource):
                    yield source.folder
                    return
                for member in source.names:  # which open_source has refused where they point outside
                    content = source.read(member)
                    if image_suffix(member) in IMAGE_SUFFIXES or is_dicom(content):
                        path = unpacked / member
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(content)
        except UserError as error:
            raise UserError(str(error).replace("ingest.", "batch.")) from None  # a source's params by their names here
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
