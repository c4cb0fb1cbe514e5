"""What a candidate computes for an image."""

from __future__ import annotations

import torch
from pydantic import ValidationError

from segops.errors import UserError
from segops.explain import explain
from segops.inference.tta import views
from segops.model_contracts import TrainedModel
from segops.models.catalogue import build
from segops.models.flops import gflops
from segops.params.candidate import CandidateParams


def candidate_gflops(model: TrainedModel) -> float:
    """GFLOPs of a pass at the candidate's input size: of all its networks and folds, each as often as it has views.

    With `input.resize: none` that is one window; resizing and cleaning aren't counted.

    Raises: UserError where the model's params aren't this version's.
    """
    try:
        params = CandidateParams.model_validate(model.params)
    except ValidationError as error:
        found = explain(error, CandidateParams)
        raise UserError(f"{model.FILE} of '{model.candidate}': params: {found}; train it again") from None
    total = 0.0
    for one in params.networks:
        with torch.device("meta"):
            network = build(one.model, channels=one.input.channels, classes=len(model.classes))
        total += gflops(network, one.input.channels, one.input.size)
    folds = len(model.folds) if model.ensemble else 1
    return round(total * folds * len(views(params.inference.tta)), 6)
