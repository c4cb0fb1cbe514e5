"""gallery.html: the worst, median and best test images of a candidate, and its scores; and pictures of a few images.

Axes: H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
from PIL import Image

from segops.comparison.paired import Half
from segops.contracts.evaluation import Evaluation
from segops.contracts.masks import IGNORED
from segops.contracts.model import TrainedModel
from segops.contracts.prepared import Prepared
from segops.contracts.scores import ReliabilityBin
from segops.pictures.heat_maps import VIRIDIS, heat, heat_over, side_by_side
from segops.pictures.images import (
    GREY,
    ORANGE,
    SKY,
    Picture,
    class_error_map,
    error_map,
    mask_picture,
    nearest,
    picture,
    picture_uri,
    thumbnail_uri,
)
from segops.reports.pages import render

if TYPE_CHECKING:
    import pandas as pd

    from segops.pictures.explanations import Explainer

Array = npt.NDArray[Any]

_THUMBNAIL_PX = 256
_TRIPTYCH_PX = 1024
_RULES = {
    "fixed": "given",
    "best_dice": "chosen on validation",
    "roc": "best Youden index on validation",
    "pr": "best F1 on validation",
}


@dataclass(frozen=True)
class Example:
    """Holds one image of the gallery: its row of per_image.csv and its pixels at native size."""

    row: dict[str, Any]
    image: Array  # HWC, uint8 or uint16
    truth: Array  # HW, class indices
    predicted: Array  # HW, class indices
    confidence: Array  # HW, as in `calibration.py`
    gradcam: Array | None  # HW in [0, 1]; None: flat
    class_colours: list[str]  # by index
    truth_objects: Array | None = None  # HW, labels; None: the source tells none apart
    predicted_objects: Array | None = None  # HW, labels; None: the candidate tells none apart
    film: list[Picture] = field(default_factory=list)  # of a volume, whose other pictures show three planes

    @property
    def masks(self) -> dict[str, tuple[Array, Array | None]]:
        """Masks and objects by name."""
        return {
            "truth": (self.truth, self.truth_objects),
            "prediction": (self.predicted, self.predicted_objects),
        }


def triptych(example: Example) -> Picture:
    """Draw image, truth and prediction side by side."""
    masks = (mask_picture(mask, example.class_colours, objects) for mask, objects in example.masks.values())
    smooth, hard = Image.Resampling.BICUBIC, Image.Resampling.NEAREST
    return side_by_side([(picture(example.image), smooth), *((mask, hard) for mask in masks)], _TRIPTYCH_PX)


def explanation(example: Example, explained: bool) -> Picture:
    """Draw confidence, and if `explained` GradCAM beside it unless it is flat."""
    parts = [(heat(example.confidence), Image.Resampling.BICUBIC)]
    if explained and example.gradcam is not None:
        parts.append((heat_over(example.image, example.gradcam), Image.Resampling.BICUBIC))
    return side_by_side(parts, _TRIPTYCH_PX)


def gallery_page(
    evaluation: Evaluation,
    model: TrainedModel,
    prepared: Prepared,
    sections: dict[str, list[Example]],
    explainer: Explainer,
    volumes: Sequence[Mapping[str, pd.DataFrame]] = (),
) -> str:
    """Render the gallery of a candidate as HTML.

    Args:
        sections: the examples by heading, e.g. Worst, Median and Best.
        explainer: of all their GradCAM maps.
        volumes: `evaluation.volume_scores.volumes_by_class` of validation and of test; none of pictures.
    """
    shown = {
        heading: [
            {
                "row": example.row,
                "panels": _panels(example, explainer.says_something),
                "film": [picture_uri(shown) for shown in example.film],
            }
            for example in examples
        ]
        for heading, examples in sections.items()
    }
    from segops.reports.charts.agreement import agreement_plot
    from segops.reports.charts.reliability import reliability

    limits = evaluation.test.volumes.volume_ml if evaluation.test.volumes and volumes else {}
    agreement = [
        agreement_plot(number, name, {"val": volumes[0][name], "test": volumes[1][name]}, of_class)
        for number, (name, of_class) in enumerate(limits.items())
    ]
    bins: dict[Half, list[ReliabilityBin]] = {"val": evaluation.val.reliability, "test": evaluation.test.reliability}
    keys = {"both": _css(GREY), "predicted alone": _css(ORANGE), "truth alone": _css(SKY)}
    return render(
        "gallery.html.j2",
        evaluation=evaluation,
        model=model,
        prepared=prepared,
        sections=shown,
        keys=keys,
        ignores=any((example.truth == IGNORED).any() for examples in sections.values() for example in examples),
        heat=", ".join(VIRIDIS),
        agreement=agreement,
        reliability=reliability({evaluation.candidate: bins}),
        rules=_RULES,
        used=_used(model),
        colours=dict(zip(evaluation.classes, model.class_colours, strict=True)),
        subsets={"Validation": evaluation.val, "Test": evaluation.test},
        explainer=explainer,
    )


def _used(model: TrainedModel) -> list[str]:
    """List what inference does beyond one pass and a threshold, in words for a reader."""
    inference = model.params.get("inference", {})
    used = [f"{name} {value}" for name, value in model.cleaning if value]
    if inference.get("tta", "none") != "none":
        used.insert(0, f"test-time augmentation {inference['tta']}")
    if inference.get("instances", {}).get("method", "none") != "none":
        method = inference["instances"]["method"]
        used.append("objects as the program numbers them" if method == "own" else f"objects by {method}")
    return used


def _panels(example: Example, explained: bool) -> dict[str, str]:
    """Draw an example's panels as data URIs by name: image, masks, errors, confidence and, if `explained`, GradCAM."""
    colours = example.class_colours
    if len(colours) == 2:
        errors = error_map(example.truth, example.predicted)
    else:
        errors = class_error_map(example.truth, example.predicted, colours)
    height, width = example.truth.shape
    size_hw = _THUMBNAIL_PX, max(1, round(width * _THUMBNAIL_PX / height))
    hard = {
        name: mask_picture(nearest(mask, size_hw), colours, None if objects is None else nearest(objects, size_hw))
        for name, (mask, objects) in example.masks.items()
    } | {"errors": errors}
    panels = {
        "image": thumbnail_uri(picture(example.image), _THUMBNAIL_PX),
        **{name: thumbnail_uri(shown, _THUMBNAIL_PX, smooth=False) for name, shown in hard.items()},
        "confidence": thumbnail_uri(heat(example.confidence), _THUMBNAIL_PX),
    }
    if explained and example.gradcam is not None:
        panels["GradCAM"] = thumbnail_uri(heat_over(example.image, example.gradcam), _THUMBNAIL_PX, photo=True)
    return panels


def _css(colour: tuple[int, int, int]) -> str:
    """Write a colour as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
