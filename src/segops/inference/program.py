"""Builds a candidate's program: from an image of any size to foreground probabilities of that size.

Test-time augmentation and the windows of a large image are parts of the program, so that it gives the same
probabilities wherever it runs: in `evaluate` and `predict`, as a registered version, and exported to another format.
The threshold and all that follows aren't parts of it.

Axes: B batch, C channels, K output channels, H height, W width; h, w are the network's height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from segops.contracts.model import InputStatistics
from segops.inference.preprocess import (
    Extent,
    content_extents,
    pad_to_multiple,
    resize_image,
    resize_rows,
    restore,
    restored_rows,
    window_matrices,
)
from segops.inference.rows import Rows, joined, mean_strips
from segops.inference.steps import InputSteps
from segops.inference.tta import mean_over_views
from segops.inference.windows import WindowRule, blended_strips, window_axis
from segops.models.blocks import SegmentationNetwork
from segops.params.inference import TestTimeAugmentation
from segops.params.input import InputParams

TrainPx = tuple[tuple[int, int], tuple[int, int]]  # median and largest training height, and width
_ENDLESS: TrainPx = ((2**30, 2**30), (2**30, 2**30))


class SegmentationProgram(nn.Module):
    """A network with all that makes probabilities of an image, without state of its own.

    These are the input's steps, windows, padding, the network and its activation (the mean over the views of test-time
    augmentation), cropping and the way back to native size. The state dict is the network's, under `network.`.

    Args:
        network: in any mode.
        input_params: the candidate's input.
        statistics: where the input's steps need them.
        tta: test-time augmentation.
        train_px: median and largest height, and width, of the training images, which decide when an image that is
            resized is cut into windows; None: never.
        window: height and width of the windows of native pixels; None: the input's size.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        input_params: InputParams,
        statistics: InputStatistics | None = None,
        tta: TestTimeAugmentation = "none",
        train_px: TrainPx | None = None,
        window: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.steps = InputSteps(input_params, statistics)
        self.channels = input_params.channels
        self.size = window or input_params.size_in_plane
        self.resize = input_params.resize
        self.tta = tta
        self.backend: Callable[[Tensor], Tensor] | None = None  # computes probabilities in the network's place
        self.windows = WindowRule(self.size, None, input_params.window_overlap)
        if input_params.resize != "none":
            self.windows = WindowRule.of_resized(*(train_px or _ENDLESS), input_params.window_overlap)

    @property
    def dimensions(self) -> int:
        """The number of dimensions of an image: 2, or 3 of volumes."""
        return self.network.dimensions

    @property
    def programs(self) -> list[SegmentationProgram]:
        """Itself, as an ensemble has members."""
        return [self]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Compute probabilities at native size.

        Args:
            image_BCHW: float32 with the candidate's number of channels; full scale is 1, or with a clip of int16 or
                float32 images their own values.

        Returns:
            probability_BKHW: float32 in [0, 1]; K = 1, foreground, for two classes, else K classes that sum to 1. A
                candidate with `objects` has a last channel more: how deep in its object a pixel is.
        """
        if torch.compiler.is_exporting():
            return self._all_windows_at_once(self.steps.enhance(image_BCHW))
        return joined(self.strips(Rows.of(image_BCHW)))

    def strips(self, image: Rows) -> Iterator[Tensor]:
        """Compute what `forward` does of an image that is read by rows, and yield it by rows from top to bottom."""
        return self._window_by_window(image, self._probabilities)

    def in_windows(self, image_BCHW: Tensor, compute: Callable[[SegmentationNetwork, Tensor], Tensor]) -> Tensor:
        """Return map_BKHW of what `compute` makes of an image, in as many windows as a prediction takes.

        Args:
            image_BCHW: as `forward` takes it.
            compute: from the network, and normalized and padded image_BChw, to a map of the same height and width.
        """
        return joined(self._window_by_window(Rows.of(image_BCHW), partial(compute, self.network)))

    def _window_by_window(self, image: Rows, compute: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        """Enhance an image, run `compute` on its windows a few at a time, and yield their blended maps by rows."""
        enhanced, sides = self.steps.by_rows(image), torch.tensor((image.height, image.width))
        height, width = self.windows.window_hw((sides[0], sides[1]))
        window_hw = (int(height), int(width))
        if self.resize != "none" and window_hw == (image.height, image.width):
            frame_BChw = resize_rows(enhanced, self.size, self.resize)
            return restored_rows(self._in_frame(frame_BChw, compute), window_hw, self.resize)
        return blended_strips(
            enhanced, window_hw, self.windows.overlap, partial(self._at_window_size, compute), self.size
        )

    def stretched(self, image_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        """Compute probabilities BKhw of the whole image stretched to `size`, for the published evaluation.

        A candidate that stretches does so without a detour over native size, and without windows.
        """
        if self.resize != "stretch":
            return resize_image(self(image_BCHW), size, "stretch")
        frame_BChw = resize_rows(self.steps.by_rows(Rows.of(image_BCHW)), self.size, "stretch")
        return restore(self._in_frame(frame_BChw, self._probabilities), size, "stretch")

    def _at_window_size(self, compute: Callable[[Tensor], Tensor], window_BCHW: Tensor) -> Tensor:
        """Run `compute` on windows: at their own size, or resized to the network's size and back."""
        if self.resize == "none":
            return self._in_frame(window_BCHW, compute)
        frame_BChw = resize_image(window_BCHW, self.size, self.resize)
        return restore(self._in_frame(frame_BChw, compute), (window_BCHW.shape[2], window_BCHW.shape[3]), self.resize)

    def _in_frame(self, frame_BChw: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Run `compute` on images of the network's size, normalized and padded as it needs."""
        padded_BChw = self.steps.normalize(pad_to_multiple(frame_BChw, self.network.multiples))
        return compute(padded_BChw)[:, :, *map(slice, frame_BChw.shape[2:])]

    def _all_windows_at_once(self, enhanced_BCHW: Tensor) -> Tensor:
        """Compute probabilities with all windows in the same batch, since an exported program has no loop."""
        (batch, channels), (height, width) = enhanced_BCHW.shape[:2], self.size
        sides = [torch.full((), side, dtype=torch.int64) for side in enhanced_BCHW.shape[2:]]
        window_hw = self.windows.window_hw((sides[0], sides[1]))
        rows, columns = (
            window_axis(side, window, self.windows.overlap)
            for side, window in zip(enhanced_BCHW.shape[2:], window_hw, strict=True)
        )
        if self.resize == "none":
            contents: tuple[Extent, Extent] = (0, rows.length), (0, columns.length)
        else:
            contents = content_extents(window_hw, self.size, self.resize)
        down, up = window_matrices(rows, contents[0], enhanced_BCHW.shape[2], height, enhanced_BCHW)
        across, back = window_matrices(columns, contents[1], enhanced_BCHW.shape[3], width, enhanced_BCHW)
        count_h, count_w = rows.start_n.shape[0], columns.start_n.shape[0]
        grid = (down @ enhanced_BCHW @ across.T).view(batch, channels, count_h, height, count_w, width)
        frames = grid.permute(0, 2, 4, 1, 3, 5).reshape(batch * count_h * count_w, channels, height, width)
        maps = self._in_frame(frames, self._probabilities)
        answers = maps.reshape(batch, count_h, count_w, maps.shape[1], height, width).permute(0, 3, 1, 4, 2, 5)
        return up @ answers.reshape(batch, maps.shape[1], count_h * height, count_w * width) @ back.T

    def _probabilities(self, padded_BChw: Tensor) -> Tensor:
        """Compute the mean probabilities over the views of test-time augmentation."""
        return mean_over_views(padded_BChw, self._activated, self.tta)

    def _activated(self, padded_BChw: Tensor) -> Tensor:
        """Run the network, and turn its logits into probabilities."""
        if self.backend is not None:
            return self.backend(padded_BChw)
        return self.network.probabilities(self.network(padded_BChw).float())


class EnsembleProgram(nn.Module):
    """The mean probability of several programs of a candidate, which share its channels and classes."""

    def __init__(self, members: Sequence[SegmentationProgram]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.channels = members[0].channels

    @property
    def dimensions(self) -> int:
        """The number of dimensions of an image: 2, or 3 of volumes."""
        return self.programs[0].dimensions

    @property
    def programs(self) -> list[SegmentationProgram]:
        """The members."""
        return [member for member in self.members if isinstance(member, SegmentationProgram)]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Compute the mean of the members' probabilities; see `SegmentationProgram.forward`."""
        return mean_of([member(image_BCHW) for member in self.members])

    def strips(self, image: Rows) -> Iterator[Tensor]:
        """Compute the mean of the members' strips; see `SegmentationProgram.strips`."""
        return mean_strips([member.strips(image) for member in self.programs])

    def in_windows(self, image_BCHW: Tensor, compute: Callable[[SegmentationNetwork, Tensor], Tensor]) -> Tensor:
        """Compute the mean of the members' maps; see `SegmentationProgram.in_windows`."""
        return mean_of([member.in_windows(image_BCHW, compute) for member in self.programs])

    def stretched(self, image_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        """Compute the mean of the members' stretched probabilities; see `SegmentationProgram.stretched`."""
        return mean_of([member.stretched(image_BCHW, size) for member in self.programs])


Program = SegmentationProgram | EnsembleProgram


def mean_of(maps: Sequence[Tensor]) -> Tensor:
    """Return the mean of maps of the same shape; a single map as it is."""
    return maps[0] if len(maps) == 1 else torch.stack(list(maps)).mean(dim=0)
