"""Runs a program of another package that makes masks, in an environment of its own, beside our candidates.

The command is started once. For each image it gets a line on its standard input, the path of a TIFF and the path where
its mask is wanted, parted by a tab, and it answers `done` on a line of its standard output; other lines are its own
affair. The TIFF is H, W or H, W, C, uint16, full scale 65535. The mask is a TIFF of integers H, W: of two classes 0 is
background and anything else foreground, such as numbered objects; of several it holds class indices.

Axes: B batch, C channels, K classes or 1, H height, W width.
"""

from __future__ import annotations

import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segops.errors import UserError
from segops.files import sha256_file
from segops.inference.instances import object_channel
from segops.inference.rows import Rows, joined
from segops.inference.whole_image import WholeImageProgram
from segops.models.blocks import SegmentationNetwork
from segops.params.input import InputParams
from segops.params.untrained import ExternalParams

_DONE = "done"


class ExternalProgram(WholeImageProgram):
    """Masks of a command as probabilities, 0 and 1, and its numbers of objects as a further channel where wanted."""

    def __init__(
        self,
        network: SegmentationNetwork,
        input_params: InputParams,
        params: ExternalParams,
        classes: int,
        *,
        own_objects: bool = False,
    ) -> None:
        super().__init__(network, input_params)
        if own_objects and classes > 2:
            raise UserError(
                "inference.instances.method own: masks of several classes number no objects; take components"
            )
        self._command, self._classes, self._own_objects = Command(params), classes, own_objects

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        """Return itself: there are no weights to change in a copy, and one process is enough."""
        return self

    def in_windows(self, image_BCHW: Tensor, compute: Callable[[SegmentationNetwork, Tensor], Tensor]) -> Tensor:  # noqa: ARG002
        """Return map_B1HW of zeros: what `compute` would look at isn't ours to see."""
        return torch.zeros_like(image_BCHW[:, :1])

    def _window_by_window(self, image: Rows, compute: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:  # noqa: ARG002
        """Hand the whole image to the command, and return its mask as probabilities."""
        image_BCHW = joined(self.steps.by_rows(image).strips())
        masks = [self._mask(image_CHW) for image_CHW in image_BCHW.clamp(0, 1).cpu().numpy()]
        yield torch.from_numpy(np.stack(masks)).to(image_BCHW.device)

    def _mask(self, image_CHW: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return probabilities KHW of an image, and its object channel."""
        levels_HWC = (image_CHW.transpose(1, 2, 0) * 65535).round().astype(np.uint16)
        mask_HW = self._command.mask(levels_HWC[..., 0] if levels_HWC.shape[-1] == 1 else levels_HWC)
        if self._classes == 2:
            channels = [mask_HW != 0, *([object_channel(mask_HW)] if self._own_objects else [])]
            return np.stack(channels).astype(np.float32)
        if mask_HW.min() < 0 or mask_HW.max() >= self._classes:
            raise UserError(f"{self._command.name}: a mask has values up to {mask_HW.max()}, not below {self._classes}")
        return np.asarray(mask_HW[None] == np.arange(self._classes)[:, None, None], np.float32)


class Command:
    """A process that is started when it is first asked for a mask, and ends with this one."""

    def __init__(self, params: ExternalParams) -> None:
        self._params = params
        self.name = f"external command {params.command[0]}"
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def mask(self, image: npt.NDArray[np.uint16]) -> npt.NDArray[np.integer[Any]]:
        """Return the command's mask HW of an image HW or HWC.

        Raises:
            UserError: the command can't be started, ends, takes longer than `timeout_s`, or leaves no mask of the
                image's size; or the file of its weights isn't the one that params name.
        """
        import tifffile

        process, folder = self._started()
        source, target = folder / "image.tif", folder / "mask.tif"
        target.unlink(missing_ok=True)
        tifffile.imwrite(source, image)
        assert process.stdin is not None
        try:
            process.stdin.write(f"{source}\t{target}\n")
            process.stdin.flush()
        except OSError:
            raise self._ended() from None
        self._await()
        try:
            mask_HW = np.asarray(tifffile.imread(target))
        except (OSError, ValueError) as error:
            raise UserError(f"{self.name}: said done, but left no readable mask ({error})") from None
        if mask_HW.shape != image.shape[:2] or mask_HW.dtype.kind not in "biu":
            raise UserError(
                f"{self.name}: a mask is {mask_HW.dtype} of {list(mask_HW.shape)}; it must be integers of "
                f"{list(image.shape[:2])}"
            )
        return mask_HW.astype(np.int64)

    def _started(self) -> tuple[subprocess.Popen[str], Path]:
        """Return the process, started at the first call, and the folder for its files."""
        if self._process is None or self._scratch is None:
            self._check_weights()
            self._scratch = tempfile.TemporaryDirectory(prefix="segops-external-")
            errors = (Path(self._scratch.name) / "stderr").open("w")
            try:
                self._process = subprocess.Popen(  # noqa: S603 - the project's own params
                    self._params.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
                )
            except OSError as error:
                raise UserError(f"{self.name}: can't be started ({error.strerror}); see model.command") from None
            finally:
                errors.close()
            threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()
        return self._process, Path(self._scratch.name)

    def _check_weights(self) -> None:
        """Raise UserError unless the file of the weights is the one that params name."""
        weights = self._params.weights
        if weights is None:
            return
        path = Path(weights.path)
        if not path.is_file():
            raise UserError(f"{self.name}: model.weights.path {path}: no such file")
        if (found := sha256_file(path)) != weights.sha256:
            raise UserError(f"{self.name}: {path} has sha256 {found}, not the model.weights.sha256 of params")

    def _listen(self, stdout: IO[str]) -> None:
        """Pass on what the process says, and None when it ends."""
        for line in stdout:
            self._lines.put(line.strip())
        self._lines.put(None)

    def _await(self) -> None:
        """Wait until the process says done."""
        while True:
            try:
                line = self._lines.get(timeout=self._params.timeout_s)
            except queue.Empty:
                assert self._process is not None
                self._process.kill()
                raise UserError(
                    f"{self.name}: no answer in {self._params.timeout_s:g} s; raise model.timeout_s"
                ) from None
            if line is None:
                raise self._ended()
            if line == _DONE:
                return

    def _ended(self) -> UserError:
        """Make the error that says how the process ended, with its last words."""
        assert self._process is not None
        assert self._scratch is not None
        code = self._process.wait()
        words = (Path(self._scratch.name) / "stderr").read_text(encoding="utf-8", errors="replace").strip()
        last = f": {words.splitlines()[-1][:200]}" if words else ""
        return UserError(f"{self.name}: ended with exit code {code}{last}")

    def __del__(self) -> None:
        """End the process."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
