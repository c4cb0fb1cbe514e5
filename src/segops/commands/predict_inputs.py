"""Finds the images that predict, drift and batch inference receive, and the files that are written for them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segops.data.decoders.kinds import unread_kind
from segops.data.decoders.ome_zarr import SUFFIX as ZARR
from segops.data.image_rows import ImageRows, open_rows
from segops.data.images import PICTURE_SUFFIXES, read_stack
from segops.data.layouts.unused import unused_files
from segops.data.sources.source import check_encoding, is_junk, read_member, unreadable
from segops.errors import UserError, may_pass
from segops.params.file_rules import FileRules
from segops.progress import counted, say

if TYPE_CHECKING:
    import numpy.typing as npt


def plan(inputs: list[Path], out: Path, *, overlays: bool) -> dict[Path, Path]:
    """Map each image to the mask to write for it, sorted by image. Raises UserError as `predict` says."""
    work: dict[Path, Path] = {}
    for entry in inputs:
        work |= {path: out / path.relative_to(root_of(entry)).with_suffix(".png") for path in images_in(entry, out)}
    if not work:
        kinds = ", ".join(sorted(PICTURE_SUFFIXES))
        raise UserError(f"{', '.join(map(str, inputs))}: no image found; supported are {kinds}")
    taken: dict[Path, Path] = {}
    resolved = _resolver()
    originals = {resolved(path) for path in work}
    for path, target in sorted(work.items()):
        for written in (target, objects_path(target), *([overlay_path(target)] if overlays else [])):
            if resolved(written) in originals:
                raise UserError(f"{path}: its mask would overwrite the input {written}; choose another output folder")
            if written in taken:
                raise UserError(
                    f"{taken[written]} and {path} would both write {written}; rename one or predict in two runs"
                )
            taken[written] = path
    return dict(sorted(work.items()))


def stacked(work: dict[Path, Path], stack: list[str]) -> dict[tuple[Path, ...], Path]:
    """Map the files of each image to its mask: for stacked channels, files whose stems differ in the ending alone.

    Args:
        work: each file and the mask to write for it alone.
        stack: the endings of the channels' files, in order; a file without such an ending is an image by itself.

    Raises: UserError naming the file whose other channels are missing.
    """
    stacks: dict[tuple[Path, ...], Path] = {}
    for path, target in work.items():
        ending = max((text for text in stack if path.stem.endswith(text)), key=len, default=None)
        if ending is None:
            stacks[(path,)] = target
            continue
        stem = path.stem.removesuffix(ending)
        files = tuple(path.with_name(f"{stem}{text}{path.suffix}") for text in stack)
        missing = [file for file in files if file not in work]
        if missing:
            raise UserError(f"{path}: its channel {missing[0].name} is missing; give all of {', '.join(stack)}")
        stacks[files] = target.with_name(f"{stem}{target.suffix}")
    return stacks


def read_pixels(paths: tuple[Path, ...], rules: FileRules) -> npt.NDArray[Any]:
    """Read the image HWC in a file, or in a file for each channel, as the files of the training images were read.

    Raises UserError naming the file that can't be read.
    """
    try:
        return read_stack(lambda name: read_member(Path(name)), [str(path) for path in paths], rules=rules)
    except OSError as error:
        raise unreadable_file(error, paths[0]) from None


@contextmanager
def open_pixels(paths: tuple[Path, ...], rules: FileRules, scratch: Path) -> Iterator[ImageRows]:
    """Open an image as `read_pixels` reads it, to read its rows; see `open_rows`."""
    check_encoding(paths[0])
    with ExitStack() as stack:
        try:
            image = stack.enter_context(open_rows(paths, rules, scratch))
        except OSError as error:
            if error.filename not in map(str, paths):
                raise
            raise unreadable_file(error, paths[0]) from None
        yield image


Opener = Callable[[], AbstractContextManager[ImageRows]]


def opened_ahead(openers: Iterable[Opener], ahead: int = 1) -> Iterator[Callable[[], ImageRows]]:
    """Open images in order, some while the one before them is in use, and close each after its use.

    Args:
        ahead: how many.

    Yields:
        a function that returns the image, or raises what its opening has raised.
    """

    def enter(opener: Opener) -> tuple[ExitStack, ImageRows]:
        stack = ExitStack()
        return stack, stack.enter_context(opener())

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read") as reader:
        waiting: deque[Future[tuple[ExitStack, ImageRows]]] = deque()
        for opener in chain(openers, repeat(None)):
            if opener is not None:
                waiting.append(reader.submit(enter, opener))
                if len(waiting) <= ahead:
                    continue
            if not waiting:
                return
            opened = waiting.popleft()
            yield lambda opened=opened: opened.result()[1]  # type: ignore[misc]
            if opened.exception() is None:
                opened.result()[0].close()


def unreadable_file(error: OSError, path: Path) -> UserError | OSError:
    """Word that a file can't be read, and name it in an error that is the machine's fault: the next file meets it too.

    The error itself names none where reading fails after opening.
    """
    error.filename = error.filename or str(path)
    if may_pass(error):
        return error
    return UserError(f"{error.filename}: can't be read ({error.strerror}); check the file's permissions")


def display_name(path: Path, folders: Set[Path]) -> str:
    """Return an image's path below the input folder that holds it, or its name; bytes that aren't UTF-8 are escaped."""
    folder = next((parent for parent in path.parents if parent in folders), path.parent)
    return shown(path.relative_to(folder))


def shown(path: Path) -> str:
    """Return a path as text; bytes that aren't UTF-8 are escaped."""
    return path.as_posix().encode("utf-8", "backslashreplace").decode()


def say_skipped(inputs: list[Path], taken: Collection[Path], out: Path) -> None:
    """Say how many files of the input folders were no images that can be read, by kind."""
    names = [str(path) for entry in inputs if is_folder(entry) for path in files_in(entry, out)]
    unused = unused_files(names, {str(path) for path in taken})
    if unused:
        kinds = ", ".join(f"{entry.files} {entry.kind} ({Path(entry.named[0]).name}, ..)" for entry in unused)
        say(f"predict: {counted(sum(entry.files for entry in unused), 'file')} skipped: {kinds}")


def objects_path(target: Path) -> Path:
    """Return the path of the file of numbered objects beside a mask."""
    return target.with_suffix(".objects.png")


def overlay_path(target: Path) -> Path:
    """Return the path of the overlay beside a mask."""
    return target.with_suffix(".overlay.png")


def images_in(entry: Path, out: Path) -> list[Path]:
    """List the images that an argument names; in a folder all supported files, but not hidden or below `out`."""
    if is_folder(entry):
        return [path for path in files_in(entry, out) if path.suffix.lower() in PICTURE_SUFFIXES]
    if not entry.exists():
        raise UserError(f"{entry}: no such file or folder")
    if entry.suffix.lower() not in PICTURE_SUFFIXES:
        what = unread_kind(entry.name) or "not a supported image"
        raise UserError(f"{entry}: {what}; supported are {', '.join(sorted(PICTURE_SUFFIXES))}")
    return [entry]


def files_in(folder: Path, out: Path) -> list[Path]:
    """List a folder's files, sorted, that aren't hidden, nor earlier outputs below `out`.

    Raises: UserError for a folder that can't be read.
    """
    paths = []
    outputs = out.resolve()
    for here, subfolders, names in os.walk(folder, onerror=unreadable):
        if outputs != folder.resolve() and Path(here).resolve().is_relative_to(outputs):
            subfolders.clear()
            continue
        images = [name for name in subfolders if name.lower().endswith(ZARR)]
        subfolders[:] = [name for name in subfolders if name not in images]
        paths += [Path(here) / name for name in (*names, *images)]
    return sorted(path for path in paths if not is_junk(path.relative_to(folder).as_posix()))


def _resolver() -> Callable[[Path], Path]:
    """Return what does as Path.resolve, but asks the disk once for a folder and not for each of its files."""
    folder_of = cache(Path.resolve)
    return lambda path: path.resolve() if path.is_symlink() else folder_of(path.parent) / path.name


def is_folder(entry: Path) -> bool:
    """Return whether an input is a folder of images, and not an image that is a folder."""
    return entry.is_dir() and entry.suffix.lower() != ZARR


def root_of(entry: Path) -> Path:
    """Return the folder that an input's paths are relative to."""
    return entry if is_folder(entry) else entry.parent
