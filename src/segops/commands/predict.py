"""Predicts masks for images of any supported format and size."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from segops.commands.backends import use_backend
from segops.commands.predict_inputs import (
    display_name,
    is_folder,
    open_pixels,
    opened_ahead,
    plan,
    say_skipped,
    stacked,
)
from segops.commands.segment import PictureTask, Segmented, predict_image, predict_volume
from segops.commands.used_model import UsedModel, used_model
from segops.commands.volume_inputs import VolumeTask, volume_tasks
from segops.contracts.model import TrainedModel
from segops.contracts.tables import PREDICTION_COLUMNS, PREDICTIONS_FILE, six_decimals, write_csv
from segops.data.parallel import ALL, Part, in_order
from segops.errors import UserError
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.progress import say, track

if TYPE_CHECKING:
    from segops.data.image_rows import ImageRows
    from segops.inference.predict import Maps, Predictor

_SHOWN = 5
_AT_ONCE = 8  # images that a worker takes in turn
_BEHIND = 2  # pictures that are predicted and not yet written


@dataclass(frozen=True)
class PredictRequest:
    """What is segmented, with which model, and where the masks go.

    Attributes:
        model: an alias or version of the registered model, or a folder with model.json and weights.safetensors.
        inputs: image files, and folders that are searched with their subfolders.
        out: gets `<stem>.png` for each image, under the same subfolders as below the given folder.
        overlays: also write `<stem>.overlay.png`, the image tinted and outlined in the colours of the classes.
        uint16_bits: that 16-bit samples use, for a model that has seen none.
        backend: what runs the network; see `use_backend`.
        exported: the folder of a `segops export`; None: what the version keeps.
    """

    model: str
    runtime: RuntimeParams
    tracking: TrackingParams
    inputs: list[Path]
    out: Path
    overlays: bool
    uint16_bits: int | None = None
    backend: str = "torch"
    exported: Path | None = None


def predict(request: PredictRequest, *, table: bool = False) -> list[Path]:
    """Segment files and folders with a registered model or a candidate's folder.

    Args:
        table: also write predictions.csv.

    Returns:
        The files written. A mask is uint8: 0 and 255 for two classes; class indices for more, in a PNG whose palette
        holds the colours of the classes. A candidate that tells objects apart also gives `<stem>.objects.png`, uint16:
        0 background, then a number for each object. Of a volume the mask is `<stem>.nii.gz`, class indices with the
        source's affine, or `<folder>.seg.dcm` of a DICOM series.

    Raises:
        UserError: before anything is written for a missing input, two inputs with the same output, an output that is
            an input, no image at all; at the end for images that can't be read, after the others are done.
    """
    out, done = request.out, segment_all(request)
    if table:
        write_predictions(done, out)
    bad = [Path(image.image).name for image in done if image.error]
    if bad:
        more = ", ..." if len(bad) > _SHOWN else ""
        raise UserError(
            f"{len(bad)} of {len(done)} images can't be read ({', '.join(bad[:_SHOWN])}{more}; see above); "
            f"the masks of the others are in {out}"
        )
    return [*(path for image in done for path in image.files), *([out / PREDICTIONS_FILE] if table else [])]


Task = PictureTask | VolumeTask


def segment_all(request: PredictRequest, part: Part = ALL) -> list[Segmented]:
    """Do what `predict` does, but report an image that can't be read on stderr and in the result.

    Args:
        part: of the images, which are segmented.

    Raises: UserError: as `predict` before anything is written.
    """
    with used_model(request.model, request.tracking) as used:
        segmenter = Segmenter(request, used)
        say(f"predict: {used.shown}, {segmenter.backend}")
        model = segmenter.predictor.model
        tasks: Sequence[Task] = (
            volume_tasks(request.inputs, request.out, model.stack, model.files)
            if model.dimensions == 3
            else _pictures(request, model)
        )
        done = []
        share = part.of(tasks)
        for image in track(_segmented(segmenter, share), "predict", total=len(share)):
            if image.error:
                say(image.error)
            done.append(image)
    say_skipped(request.inputs, {path for task in tasks for path in _files(task)}, request.out)
    return done


def _pictures(request: PredictRequest, model: TrainedModel) -> list[PictureTask]:
    """List the pictures to segment, by their files."""
    stacks = stacked(plan(request.inputs, request.out, overlays=request.overlays), model.stack)
    folders = set(filter(is_folder, request.inputs))
    return [PictureTask(display_name(paths[0], folders), paths, target) for paths, target in stacks.items()]


def _files(task: Task) -> Sequence[Path]:
    """List the files that a task reads."""
    return task.paths if isinstance(task, PictureTask) else [path for files in task.channels for path in files]


def _segmented(segmenter: Segmenter, tasks: Sequence[Task]) -> Iterator[Segmented]:
    """Segment images in order: here, or in processes that each load the model."""
    workers = segmenter.request.runtime.workers
    if workers == 1:
        yield from segmenter.each(tasks)
        return
    ranges = [tasks[first : first + _AT_ONCE] for first in range(0, len(tasks), _AT_ONCE)]
    for done in in_order(segmenter.for_worker(), ranges, workers):
        yield from done


class Segmenter:
    """Segments images with a model that is loaded once in a process.

    Args:
        used: the model's files.
        chosen: what runs the network, where that is decided and its files are in the model's folder; else None.
    """

    def __init__(self, request: PredictRequest, used: UsedModel, chosen: str | None = None) -> None:
        self.request, self._used, self._chosen = request, used, chosen

    @cached_property
    def _loaded(self) -> tuple[Predictor, str]:
        """The predictor, and the name of what runs its network."""
        from segops.inference.device import inference_device
        from segops.inference.predict import Predictor
        from segops.training.process import prepare_process

        request, runtime = self.request, self.request.runtime
        prepare_process(runtime.threads)
        predictor = Predictor.load(self._used.folder, device=inference_device(runtime.device))
        exported = request.exported or (self._used.folder if self._chosen else None)
        wanted = self._chosen or request.backend
        backend = use_backend(predictor, wanted, self._used, exported, request.tracking, runtime.threads)
        if request.uint16_bits is not None:
            predictor = predictor.with_bits(request.uint16_bits)
        return predictor, backend

    @property
    def predictor(self) -> Predictor:
        """The loaded model."""
        return self._loaded[0]

    @property
    def backend(self) -> str:
        """What runs the network."""
        return self._loaded[1]

    def for_worker(self) -> Segmenter:
        """Return a segmenter that another process loads, of the same files and backend."""
        return Segmenter(self.request, self._used, self.backend)

    def __call__(self, tasks: Sequence[Task]) -> list[Segmented]:
        """Segment images."""
        return list(self.each(tasks))

    def each(self, tasks: Sequence[Task]) -> Iterator[Segmented]:
        """Segment images in order; pictures are opened and written while others go through the network."""
        yield from self._pictures([task for task in tasks if isinstance(task, PictureTask)])
        for task in tasks:
            if isinstance(task, VolumeTask):
                try:
                    yield predict_volume(self.predictor, task, overlays=self.request.overlays)
                except UserError as error:
                    yield Segmented(task.name, error=str(error))

    def _grouped(self, tasks: Sequence[PictureTask]) -> Iterator[list[OpenedPicture]]:
        """Open pictures in order, and put those of a size together that go through the network at once."""
        ahead, rules = self.predictor.most_at_once, self.predictor.model.files
        openers = (partial(open_pixels, task.paths, rules, task.target.parent) for task in tasks)
        group: list[OpenedPicture] = []
        for task, opened in zip(tasks, opened_ahead(openers, ahead), strict=True):
            try:
                picture = OpenedPicture(task, opened())
            except UserError as error:
                picture = OpenedPicture(task, error)
            if group and picture.kind != group[0].kind:
                yield group
                group = []
            group.append(picture)
            if isinstance(picture.rows, UserError) or len(group) == self.predictor.at_once(picture.rows):
                yield group
                group = []
        if group:
            yield group

    def _pictures(self, tasks: Sequence[PictureTask]) -> Iterator[Segmented]:
        """Segment pictures in order; small ones are written while the network has those after them."""
        behind: deque[Future[Segmented]] = deque()
        with ThreadPoolExecutor(1) as writer:
            for group in self._grouped(tasks):
                for picture, maps in zip(group, self._maps(group), strict=True):
                    while len(behind) > (_BEHIND if maps else 0):
                        yield behind.popleft().result()
                    if maps:
                        behind.append(writer.submit(self._written, picture, maps))
                    else:  # by its rows, which the network has as they are written
                        yield self._written(picture)
            while behind:
                yield behind.popleft().result()

    def _written(self, picture: OpenedPicture, maps: Maps | None = None) -> Segmented:
        """Write what is predicted of a picture; predict it first where there are no maps."""
        task, rows = picture
        try:
            if isinstance(rows, UserError):
                raise rows
            return predict_image(self.predictor, rows, task, overlays=self.request.overlays, maps=maps)
        except UserError as error:
            return Segmented(task.name, error=str(error))

    def _maps(self, group: list[OpenedPicture]) -> Sequence[Maps | None]:
        """Predict small pictures of a size together; None of each that goes through the network by its rows."""
        small = [rows for _, rows in group if not isinstance(rows, UserError) and self.predictor.in_a_piece(rows)]
        if small:
            with suppress(UserError):  # of one that isn't known: each by itself tells
                return self.predictor.maps_together(small)
        return [None] * len(group)


class OpenedPicture(NamedTuple):
    """A picture that is opened, or why it can't be."""

    task: PictureTask
    rows: ImageRows | UserError

    @property
    def kind(self) -> tuple[object, ...] | None:
        """What pictures have in common that can be predicted together; None of one that can't be opened."""
        rows = self.rows
        return None if isinstance(rows, UserError) else (rows.height, rows.width, rows.channels, rows.dtype)


def write_predictions(done: list[Segmented], out: Path) -> None:
    """Write predictions.csv beside the masks."""
    import pandas as pd

    rows = [
        {**vars(image), "mask": image.files[0].relative_to(out).as_posix() if image.files else None} for image in done
    ]
    table = pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS))
    table = table.astype(dict.fromkeys(("height", "width", "objects"), "Int64"))
    write_csv(six_decimals(table), out / PREDICTIONS_FILE)
