"""Shows what a candidate's augmentation makes of some training images, as a page.

Axes: C channels, H height, W width; patches of volumes have a depth D before H, and are shown by three planes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segops.contracts.volumes import Spacing
from segops.files import project_root, write_text
from segops.params.candidate import CandidateParams
from segops.params.runtime import RuntimeParams

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from segops.data.arrays import PreparedData
    from segops.training.augmentation.changes import Changes

_THUMBNAIL_PX = 168


def augment_preview(
    candidate: str,
    params: CandidateParams,
    runtime: RuntimeParams,
    *,
    prepared: Path,
    page: Path,
    images: int = 3,
    versions: int = 6,
) -> int:
    """Write the page: some training images, augmented versions of each, and each element alone at its extreme.

    Validation and test images are never read for it. The same params and data give the same page.

    Args:
        candidate: its name, for the page.
        params: the candidate's; `recipe.augment` and `recipe.seed` decide the versions.
        runtime: threads and cache, as training has them: images are resized once for both.
        prepared: what `prepare` wrote.
        page: the HTML file.
        images: most images; modalities come by turns.
        versions: of each image.

    Returns: how many images it shows.
    """
    import torch

    from segops.data.arrays import PreparedData
    from segops.reports.pages import render
    from segops.training.augmentation.extremes import extremes, on_and_off
    from segops.training.batches.seen import as_seen
    from segops.training.process import prepare_process

    prepare_process(runtime.threads)
    cache_root = project_root() / runtime.cache_root
    data = as_seen(PreparedData.open(prepared), params.input, cache_root)
    examples = _examples(data, params, cache_root, images)
    augment, size = params.recipe.augment, params.input.size
    on, off = on_and_off(augment)
    generator = torch.Generator().manual_seed(params.recipe.seed)
    text = render(
        "augmentation.html.j2",
        candidate=candidate,
        dataset=data.meta.dataset,
        size="x".join(map(str, size)),
        volumes=params.input.of_volumes,
        patches=params.input.resize == "none",
        examples=[
            {"id": image.image_id, "modality": image.modality, "uris": _versions(image, params, versions, generator)}
            for image in examples
        ],
        ids=[image.image_id for image in examples],
        elements=[
            {"label": label, "uris": [image.changed(changes) for image in examples]}
            for label, changes in extremes(augment, size, params.input.spacing_mm)
        ],
        on={name: json.dumps(value) for name, value in on.items()},
        off=off,
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, text)
    return len(examples)


@dataclass(frozen=True)
class _Example:
    """A training image as the network sees it, and how its pictures are stretched."""

    image_id: str
    modality: str
    image_1CHW: Tensor
    mask_1HW: Tensor
    class_colours: list[str]
    spacing_mm: Spacing | None

    def uri(self, image_CHW: Tensor, mask_HW: Tensor) -> str:
        """Draw a picture with the mask's outline, on the scale of the unchanged image, as a data URI."""
        import numpy as np
        from PIL import Image

        from segops.contracts.masks import classes_of
        from segops.params.colours import rgb
        from segops.pictures.images import hatched, outline, picture, shown_range, thumbnail_uri
        from segops.pictures.planes import planes_of

        show = planes_of(mask_HW.numpy(), mask_HW.numpy(), self.spacing_mm)
        picture_HW3 = picture(show(image_CHW.movedim(0, -1).numpy()), shown_range(self.image_1CHW.numpy(), 1.0))
        shown_HW = show(mask_HW.numpy())
        height_px, width_px = _THUMBNAIL_PX, max(1, round(_THUMBNAIL_PX * shown_HW.shape[1] / shown_HW.shape[0]))
        small = np.array(Image.fromarray(picture_HW3).resize((width_px, height_px)))
        nearest = Image.Resampling.NEAREST
        small_mask_HW = np.asarray(Image.fromarray(shown_HW).resize((width_px, height_px), nearest))
        rim_HW = outline(classes_of(small_mask_HW))
        small[rim_HW] = np.array([rgb(colour) for colour in self.class_colours], np.uint8)[small_mask_HW[rim_HW]]
        return thumbnail_uri(hatched(small, small_mask_HW, see_through=True), _THUMBNAIL_PX)

    def changed(self, changes: Changes) -> str:
        """Draw the picture after the changes of a single image, as a data URI."""
        from segops.training.augmentation.augment import augment

        image_1CHW, mask_1HW = augment(self.image_1CHW, self.mask_1HW, changes)
        return self.uri(image_1CHW[0], mask_1HW[0])


def _examples(data: PreparedData, params: CandidateParams, cache_root: Path, images: int) -> list[_Example]:
    """Pick training images, modalities by turns, as the candidate's training sees them."""
    import torch

    from segops.training.batches.subsets import open_subsets

    cpu = torch.device("cpu")
    rows = data.rows("train")
    table = data.index.iloc[rows]
    subset = open_subsets(data, params, cache_root, device=cpu).train
    examples = []
    for position in _by_turns([str(modality) for modality in table["modality"]], images):
        drawn: list[Any] = [position]
        if params.input.resize == "none":
            first = position * params.recipe.patches_per_image
            drawn = subset.draw([first], torch.Generator().manual_seed(params.recipe.seed))
        image_1CHW, mask_1HW = subset.batch(drawn, cpu)
        row = table.iloc[position]
        colours, spacing_mm = data.meta.class_colours, data.spacing_mm(rows[position])
        names = str(row["image_id"]), str(row["modality"])
        examples.append(_Example(*names, image_1CHW, mask_1HW, colours, spacing_mm))
    return examples


def _by_turns(modalities: list[str], count: int) -> list[int]:
    """Pick positions of `count` images, or all: modalities in turn, the commonest first, each in a fixed order."""
    import numpy as np

    shuffled = np.random.default_rng(0).permutation(len(modalities)).tolist()
    of_each = {name: [i for i in shuffled if modalities[i] == name] for name in sorted(set(modalities))}
    commonest = sorted(of_each, key=lambda name: -len(of_each[name]))
    turns = range(max((len(positions) for positions in of_each.values()), default=0))
    return [of_each[name][turn] for turn in turns for name in commonest if turn < len(of_each[name])][:count]


def _versions(example: _Example, params: CandidateParams, versions: int, generator: Generator) -> list[str]:
    """Draw the image as it is, then as an epoch could show it, as data URIs."""
    from segops.training.augmentation.augment import augment
    from segops.training.augmentation.changes import draw_changes

    changes = draw_changes(versions, params.input.size, params.recipe.augment, generator, params.input.spacing_mm)
    images, masks = (part.repeat_interleave(versions, 0) for part in (example.image_1CHW, example.mask_1HW))
    image_BCHW, mask_BHW = augment(images, masks, changes)
    changed = [example.uri(image_CHW, mask_HW) for image_CHW, mask_HW in zip(image_BCHW, mask_BHW, strict=True)]
    return [example.uri(example.image_1CHW[0], example.mask_1HW[0]), *changed]
