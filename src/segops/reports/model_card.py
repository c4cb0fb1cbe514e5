"""model_card.md: what a model is for, what made it, how good it is and for whom, and how to load it.

Sections are those of Mitchell et al. 2019, "Model Cards for Model Reporting". Intended use and limits are typed in
params; the rest comes from the files of the candidate, so the same files give the same card. It therefore holds no
version's number and no address of a server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from segops.contracts.evaluation import Evaluation
from segops.contracts.model import TrainedModel
from segops.evaluation.subgroups import Subgroup, subgroups
from segops.params.candidate import CandidateParams
from segops.params.register import CardParams
from segops.reports.markdown import Markdown, link
from segops.reports.pages import render

if TYPE_CHECKING:
    import pandas as pd

_FEW_IMAGES = 5
_FEW_GROUPS = 10
_CLEARLY_WORSE = 0.1  # Dice
_SCORES = (
    ("Dice", "dice"),
    ("IoU", "iou"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("accuracy", "accuracy"),
)
_FIGURES = (
    ("Dice over all pixels", "pooled_dice"),
    ("false positives: share of images without foreground in which some was predicted", "false_positive_share"),
    ("HD95, pixels", "hd95_px"),
    ("ASSD, pixels", "assd_px"),
    ("area under precision-recall", "pr_auc"),
    ("area under ROC", "roc_auc"),
    ("expected calibration error", "ece"),
)
_VOLUME_FIGURES = (("HD95, mm", "hd95_mm"), ("maximum Hausdorff, mm", "hd_mm"), ("ASSD, mm", "assd_mm"))
_MICROMETRE_FIGURES = (("HD95, um", "hd95_um"), ("ASSD, um", "assd_um"))
_KINDS = {"modality": "modality", "size": "longer side", "group": "group"}


@dataclass(frozen=True)
class Part:
    """Holds a subgroup's line of the card: images, groups, mean and lowest Dice."""

    kind: str
    name: str
    images: int
    groups: int
    dice: float | None
    lowest: float | None


def model_card(
    model: TrainedModel,
    evaluation: Evaluation,
    per_image: pd.DataFrame,
    card: CardParams,
    *,
    shown: dict[str, str],
    name: str,
) -> str:
    """Write a model's card as markdown.

    Args:
        per_image: rows of per_image.csv.
        shown: the params that the card lists, by dotted path.
        name: the registered model's.
    """
    params = CandidateParams.model_validate(model.params)
    test = subgroups(per_image[per_image["subset"] == "test"], min_group_images=_FEW_IMAGES)
    parts = [_part(subgroup) for subgroup in test]
    return render(
        "model_card.md.j2",
        model=model,
        evaluation=evaluation,
        card=card,
        params=params,
        channels={1: "grey", 3: "RGB"}.get(params.input.channels, f"{params.input.channels} channels"),
        outputs=model.classes[1:] if len(model.classes) == 2 else model.classes,
        cleaning=[f"{key} {value}" for key, value in model.cleaning if value],
        networks=_networks(model),
        shown=shown,
        intended_use=Markdown(card.intended_use.strip()),
        limits=Markdown(card.limits.strip()),
        factors=list(dict.fromkeys(part.kind for part in parts)) or ["nothing: all images are of one kind"],
        source=link(model.source, model.source),
        modalities=", ".join(f"{modality} ({images})" for modality, images in model.train_modalities.items()),
        scores=_SCORES,
        figures=_FIGURES,
        volume_figures=_VOLUME_FIGURES,
        micrometre_figures=_MICROMETRE_FIGURES,
        parts=parts,
        caveats=caveats(model, evaluation, parts),
        scales=" or ".join(f"{scale:g} ({dtype})" for dtype, scale in model.full_scale.items()),
        name=Markdown(name),
    )


def caveats(model: TrainedModel, evaluation: Evaluation, parts: list[Part]) -> list[str]:
    """List what a reader of the scores should know: leaks, few groups, small or badly served subgroups."""
    test = evaluation.test
    found = []
    if model.protocol != "grouped":
        found.append(
            f"The protocol {model.protocol} may put images of one group on two sides; "
            "scores on new groups will be lower."
        )
    if test.groups < _FEW_GROUPS:
        found.append(f"The test set has {test.groups} groups, so its intervals say little about new ones.")
    unseen = sorted(set(model.train_modalities) - set(test.by_modality))
    if unseen:
        found.append(f"No test image is of the modality {', '.join(unseen)}.")
    for part in parts:
        if part.images < _FEW_IMAGES:
            found.append(f"The {part.kind} {part.name} has {part.images} test images, too few to judge it.")
        if part.dice is not None and test.dice.mean - part.dice > _CLEARLY_WORSE:
            found.append(f"On the {part.kind} {part.name} Dice is {part.dice:.3f}; on all images {test.dice.mean:.3f}.")
    return found


def _part(subgroup: Subgroup) -> Part:
    """Summarize a subgroup as a line: its images, its groups, and its mean and lowest Dice."""
    dice = subgroup.rows["dice"].dropna()
    groups = int(subgroup.rows["group_id"].nunique())
    mean, lowest = (float(dice.mean()), float(dice.min())) if len(dice) else (None, None)
    return Part(_KINDS[subgroup.kind], subgroup.name, len(subgroup.rows), groups, mean, lowest)


def _networks(model: TrainedModel) -> str:
    """Say how many networks the model has, and what each was trained on."""
    if model.ensemble:
        return f"the mean of {len(model.folds)} networks, each trained without one fold"
    if model.members:
        return f"the mean of {1 + len(model.members)} networks"
    return f"one; {len(model.folds)} more, each trained without one fold, for out-of-fold scores"
