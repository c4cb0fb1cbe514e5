"""Defines what evaluate writes: how good a model is, and how sure that is."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from segops.contracts.base import Contract, Sha256
from segops.contracts.scores import PublishedScores, SubsetScores
from segops.params.split import SplitProtocol


class Evaluation(Contract):
    """metrics.json: how good a candidate is on validation and test, and how sure that is."""

    FILE: ClassVar[str] = "metrics.json"
    candidate: str
    key: Sha256
    weights_sha256: Sha256
    test_sha256: Sha256
    protocol: SplitProtocol
    classes: list[str] = Field(min_length=2)
    threshold: float | None = Field(description="null: the likeliest of several classes, or Otsu's of each image")
    confidence: float
    val: SubsetScores
    test: SubsetScores
    out_of_fold: SubsetScores | None = Field(
        None, description="cross-validation: each image outside test, by the model that hasn't seen its fold"
    )
    published: PublishedScores | None = Field(None, description="test, under the published protocol alone")

    @property
    def shown_classes(self) -> list[str]:
        """The foreground classes that have figures of their own: none of two classes, whose scores are the image's."""
        return self.classes[1:] if len(self.classes) > 2 else []

    @property
    def subsets(self) -> dict[str, SubsetScores]:
        """Scores by name: val, test, and out_of_fold where there is cross-validation."""
        return {"val": self.val, "test": self.test} | ({"out_of_fold": self.out_of_fold} if self.out_of_fold else {})

    @model_validator(mode="after")
    def _same_classes(self) -> Evaluation:
        """Refuse a confusion matrix whose size is not the number of classes."""
        for scores in self.subsets.values():
            sides = {len(scores.confusion), *(len(row) for row in scores.confusion)}
            if list(scores.by_class) != self.shown_classes or sides != {len(self.classes)}:
                raise ValueError(f"by_class and confusion must be of the classes {', '.join(self.classes)}")
        return self
