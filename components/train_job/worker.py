"""A process of a TrainJob: `torchrun -m components.train_job.worker FOLDER`, FOLDER with request.json."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from components.train_job.request import TrainRequest
from segops.errors import one_line_errors
from segops.kubeflow import section


def main() -> None:
    """Train in the first process, and beside it in the others."""
    from segops.params.candidate import CandidateParams
    from segops.params.runtime import RuntimeParams
    from segops.params.tracking import TrackingParams
    from segops.stages.train import take_part, train
    from segops.training.torchrun import is_first

    with one_line_errors():
        request = TrainRequest.load(Path(sys.argv[1]))
        os.environ.update(request.environment)
        settings = (
            section(CandidateParams, request.recipe),
            section(RuntimeParams, request.runtime),
            section(TrackingParams, request.tracking),
        )
        if is_first():
            train(request.candidate, *settings, prepared=request.prepared, tuned=request.tuned, model=request.model)
        else:
            take_part(request.candidate, *settings, prepared=request.prepared, tuned=request.tuned)


if __name__ == "__main__":
    main()
