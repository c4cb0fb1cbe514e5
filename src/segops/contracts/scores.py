"""Defines the figures in the files that pass between stages: what a subset scored, and how candidates stand."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from segops.contracts.base import Share
from segops.contracts.pixel_size import KnownPixels
from segops.params.section import Value

_ROUNDING = 1e-9


class Interval(Value):
    """A mean over images and its interval over groups. A single group says nothing of others: it has no interval.

    `evaluation.intervals.group_interval` makes all intervals, `words` shows them.
    """

    mean: float
    low: float | None = Field(description="null: 1 group")
    high: float | None = Field(description="null: 1 group")
    groups: int = Field(ge=1)

    @model_validator(mode="after")
    def _has_two_ends_around_the_mean_or_none(self) -> Interval:
        """Refuse half an interval, one of a single group, and one that leaves the mean out."""
        if (self.groups == 1) != (self.low is None) or (self.low is None) != (self.high is None):
            raise ValueError("an interval has two ends from 2 groups on, and none with 1 group")
        if self.low is None or self.high is None:
            return self
        if not self.low - _ROUNDING <= self.mean <= self.high + _ROUNDING:
            raise ValueError(f"{self.mean} lies outside {self.low} to {self.high}")
        return self

    @property
    def side(self) -> Literal[-1, 0, 1]:
        """1 where all of it lies above 0, -1 where all of it lies below; 0 where it holds 0, or with a single group."""
        if self.low is None or self.high is None:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    def range_words(self, decimals: int = 3, *, signed: bool = False) -> str:
        """Word the interval alone: `0.872 to 0.920`, or `1 group`."""
        if self.low is None or self.high is None:
            return "1 group"
        sign = "+" if signed else ""
        return f"{self.low:{sign}.{decimals}f} to {self.high:{sign}.{decimals}f}"

    def words(self, decimals: int = 3, *, signed: bool = False) -> str:
        """Word the mean and its interval: `0.897 (0.872 to 0.920)`, or `0.897 (1 group)`."""
        return f"{self.mean:{'+' if signed else ''}.{decimals}f} ({self.range_words(decimals, signed=signed)})"


def mean_of(interval: Interval | None) -> float | None:
    """Return the interval's mean; None where there is none, since no image has a value."""
    return None if interval is None else interval.mean


class ClassScores(Value):
    """A foreground class against all others, over the images in which truth or prediction has it."""

    dice: Interval | None = Field(description="null: no image has the class, in truth or prediction")
    iou: Interval | None
    pooled_dice: float | None = Field(description="micro: over the pixels of all images")
    pixels: int = Field(ge=0, description="of the truth")
    images: int = Field(ge=0, description="whose truth has the class")
    false_positive_share: float | None = Field(
        description="of the images whose truth lacks the class, those in which it was predicted; null: no such image"
    )


class ReliabilityBin(Value):
    """Pixels whose confidence lies above `low` and at most at `high`; the first bin holds 0 too.

    Confidence is the foreground probability, hits are foreground; of several classes it is the likeliest class's
    probability, and hits are pixels of that class.
    """

    low: float
    high: float
    pixels: int = Field(ge=0)
    confidence: float | None = Field(description="mean over the pixels; null without a pixel")
    frequency: float | None = Field(description="share of hits; null without a pixel")


TrueObjects = Literal["objects of the source", "connected components", "mixed"]


class InstanceScores(Value):
    """Scores of objects, each matched with one object of the truth at most.

    Average precision (AP) of an image is TP / (TP + FP + FN), the mean over the foreground classes in which truth or
    prediction has an object. Figures are means over the images that have such a class.
    """

    ap: Interval = Field(description="mean over IoU 0.5, 0.55, ..., 0.95")
    ap50: Interval = Field(description="at IoU 0.5")
    by_iou: dict[str, float] = Field(description="AP by the smallest IoU that counts as a match")
    pq: Interval | None = Field(None, description="panoptic quality of an image; null: not measured")
    truth: TrueObjects = Field(
        "connected components",
        description="what counts as the truth's objects: the source's, or where it tells none apart the 4-connected "
        "components of its masks, among which those that touch are one; mixed: it tells them apart in some images",
    )
    component_images: int | None = Field(
        None, description="images whose source tells no objects apart; null: not counted"
    )
    objects: int = Field(ge=0, description="of the truth")
    predicted: int = Field(ge=0)
    splits: int | None = Field(
        None, description="true objects in which more than half of each of several predicted ones lies; null: as pq"
    )
    merges: int | None = Field(
        None, description="predicted objects in which more than half of each of several true ones lies; null: as pq"
    )


class Agreement(Value):
    """How predicted volumes of a class agree with true ones (Bland and Altman 1986): prediction minus truth, ml."""

    volumes: int = Field(ge=0, description="in which truth or prediction has the class")
    truth_ml: float | None = Field(description="mean true volume; null: no such volume")
    bias_ml: float | None = Field(description="mean difference")
    low_ml: float | None = Field(description="bias - 1.96 standard deviations of the differences; null: fewer than 2")
    high_ml: float | None = Field(description="bias + 1.96 standard deviations")


class VolumeScores(Value):
    """What volumes have beside the scores of pictures, over volumes whose spacing is known."""

    tolerance_mm: float = Field(description="of surface Dice")
    hd95_mm: float | None = Field(description="means as of SubsetScores.hd95_px")
    hd_mm: float | None = Field(description="maximum Hausdorff distance")
    assd_mm: float | None
    surface_dice: Interval | None = Field(description="mean over the foreground classes that truth or prediction has")
    volume_ml: dict[str, Agreement] = Field(description="by foreground class")


class MicrometreScores(KnownPixels):
    """Distances of pictures in micrometres, means as of SubsetScores.hd95_px, over those whose pixel size is known."""

    hd95_um: float | None
    hd_um: float | None
    assd_um: float | None


class SubsetScores(Value):
    """Scores of a subset at native size, with the model's threshold or, of several classes, the likeliest class.

    An image's Dice, IoU, precision and recall are means over the foreground classes that truth or prediction has; where
    that is none they are undefined, and the image is left out. Accuracy is the share of pixels with the right class.
    """

    images: int
    images_with_foreground: int = Field(ge=1, description="in the truth; without any nothing can be judged")
    false_positive_share: float | None = Field(
        description="of the images whose truth has no foreground, those in which some was predicted; null: none such"
    )
    groups: int
    dice: Interval
    iou: Interval
    precision: Interval
    recall: Interval
    accuracy: Interval
    pooled_dice: float = Field(
        description="micro: over the pixels of all images; the mean over the foreground classes that "
        "truth or prediction has"
    )
    hd95_px: float | None = Field(
        description="mean over images in which truth and prediction share a class, of the mean over those classes"
    )
    hd_px: float | None = Field(description="maximum Hausdorff distance; means as of hd95_px")
    assd_px: float | None
    pr_auc: float | None = Field(description="of foreground against background")
    roc_auc: float | None = Field(description="of foreground against background")
    by_modality: dict[str, Interval | None] = Field(description="Dice; null where it is undefined in every image")
    by_class: dict[str, ClassScores] = Field(
        description="foreground classes by name, in index order; empty for two classes, whose scores are the image's"
    )
    confusion: list[list[int]] = Field(
        description="pixels: one row per class of the truth, one column per predicted class"
    )
    ignored_share: Share = Field(0, description="of all pixels, those that belong to no known class: in no score")
    ece: float = Field(description="expected calibration error over pixels: mean |frequency - confidence| of the bins")
    reliability: list[ReliabilityBin]
    instances: InstanceScores | None = Field(None, description="null: the candidate tells no objects apart")
    micrometres: MicrometreScores | None = Field(None, description="null: no picture's pixel size is known")
    volumes: VolumeScores | None = Field(None, description="null: pictures, or volumes whose spacing isn't known")


class PublishedScores(Value):
    """The published evaluation: 256x256, truth resized bilinearly and cut at 0.5, scikit-learn's definitions."""

    accuracy: float
    f1: float
    jaccard: float
    recall: float
    precision: float


class Standing(Value):
    """A candidate's line on the leaderboard."""

    rank: int = Field(ge=1)
    candidate: str
    val_dice: Interval
    val_iou: float
    val_ece: float = Field(description="expected calibration error over pixels")
    test_dice: Interval
    test_iou: float
    test_ece: float
    val_class_dice: dict[str, float | None] = Field(
        description="mean Dice by foreground class, null where no image has it; empty for two classes"
    )
    test_class_dice: dict[str, float | None]
    val_false_positives: float | None = Field(
        description="share of the images without foreground in which some was predicted; null: no such image"
    )
    test_false_positives: float | None
    parameters: int
    gflops: float | None = Field(
        description="of an image of the training images' median size, with all networks, windows, views; null: an "
        "external program's aren't known"
    )
    registered: bool
    version: int | None
    reason: str | None = None


class PairedDifference(Value):
    """Dice of `a` minus Dice of `b`, ranked below it, on the same images. Groups are the units, not images.

    Wilcoxon's signed-rank test takes the mean difference of each group; groups without a difference are left out
    (Wilcoxon 1945). The effect is the matched-pairs rank-biserial correlation of the same groups (Kerby 2014): the
    share of ranks in favour of `a` minus the share in favour of `b`, from -1 to 1.
    """

    a: str
    b: str
    subset: Literal["val", "test"]
    images: int = Field(ge=1)
    groups: int = Field(ge=1)
    difference: Interval
    p: float | None = Field(description="of Wilcoxon's test, two-sided; null: too few groups, see reason")
    adjusted_p: float | None = Field(description="by Holm (1979) over all pairs of the subset; null where p is")
    reason: str | None = Field(description="why there is no p")
    effect: float | None = Field(ge=-1, le=1, description="null: no group has a difference")
    real: bool = Field(
        description="the interval excludes 0, adjusted_p is below 1 - confidence, and both point to the same side"
    )


class SubgroupDifference(Value):
    """Dice of `a` minus Dice of `b` on the images of a subgroup, or of a class on all images."""

    a: str
    b: str
    subset: Literal["val", "test"]
    kind: Literal["modality", "size", "group", "class"]
    name: str
    images: int = Field(ge=1)
    groups: int = Field(ge=1)
    dice_a: float
    dice_b: float
    difference: Interval
    regressed: bool | None = Field(description="the difference lies below -margin; null: too few images to judge")
