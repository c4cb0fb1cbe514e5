"""The logged model: a torch.export program for any batch, height and width, and the files that made it.

Axes: B batch, C channels, K output channels, H height, W width; volumes have a depth D before H.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segops.contracts.evaluation import Evaluation
from segops.contracts.model import WEIGHTS_FILE, TrainedModel
from segops.contracts.per_image import PER_IMAGE_FILE
from segops.contracts.tables import MODEL_CARD_FILE
from segops.contracts.usage import Reference
from segops.files import sha256_file, write_text
from segops.params.candidate import CandidateParams
from segops.tracking import artifacts, signing
from segops.tracking.creation import MARK, create_once
from segops.tracking.runs import KEY_TAG
from segops.tracking.shown_params import shown_params

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

    from segops.inference.program import Program, SegmentationProgram
    from segops.tracking.signing import Signer

# What a version holds beside MLflow's own files: what `predict` and the gate read.
FOLDER = "candidate"
EVIDENCE = (Evaluation.FILE, PER_IMAGE_FILE)
# What it is used with: drift compares new images with it.
REFERENCE = Reference.FILE
_PACKAGES = ("mlflow", "numpy", "torch")
_TOLERANCE = 1e-4
_EXAMPLE = (11, 37, 41)  # depth, of volumes alone, height and width


def log_model(client: MlflowClient, run: Run, *, model: Path, report: Path) -> str:
    """Log a candidate's program once per set of weights, with evidence and reference; return the logged model's id.

    If these weights are logged already, only evidence, reference, model.json and the card are renewed; if the stored
    weights are gone, or the signature isn't ours, everything is.
    """
    trained, signer = TrainedModel.load(model), signing.signer()
    found = find_model(client, run, trained)
    sealed = _signed_before(client, found, signer, trained) if signer is not None and found is not None else {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        if found is None or not has_files(client, found) or (signer is not None and not sealed):
            save_model(model, folder, run_id=run.info.run_id)
            _copy(model, (WEIGHTS_FILE,), folder / FOLDER)
        _copy(model, (TrainedModel.FILE,), folder / FOLDER)
        _copy(report, (*EVIDENCE, MODEL_CARD_FILE, REFERENCE), folder / FOLDER)
        if signer is not None:
            _sign(folder, signer, sealed, trained)
        if found is None:
            return upload(client, run, trained, folder)
        client.log_model_artifacts(found, str(folder))
        return found


def signature(client: MlflowClient, model_id: str) -> signing.Envelope:
    """Read what signs a logged model: nothing where the store says that there is no such file."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            location = client.get_logged_model(model_id).artifact_location
            file = artifacts.fetch(location, f"{FOLDER}/{signing.FILE}", Path(scratch))
        except FileNotFoundError:
            return signing.Envelope("")
        return signing.Envelope(file.read_text(encoding="utf-8", errors="replace"))


def _signed_before(client: MlflowClient, model_id: str, signer: Signer, trained: TrainedModel) -> dict[str, str]:
    """Return the SHA-256 by path that this signer signed before for the same weights.

    Empty if there is no such signature; everything is saved anew then.
    """
    envelope = signature(client, model_id)
    same = envelope.files.get(f"{FOLDER}/{WEIGHTS_FILE}") == trained.weights_sha256
    return envelope.files if same and envelope.signed_by(signer.keys) else {}


def _sign(folder: Path, signer: Signer, sealed: dict[str, str], trained: TrainedModel) -> None:
    """Write the signature of all files of a model but its card, which is renewed as people learn."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != MODEL_CARD_FILE]
    here = {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}
    text = signing.seal(signer, sealed | here, {"candidate": trained.candidate, "key": trained.key})
    write_text(folder / FOLDER / signing.FILE, text)


def has_files(client: MlflowClient, model_id: str) -> bool:
    """Tell whether the store still holds a logged model's weights."""
    return any(Path(file.path).name == WEIGHTS_FILE for file in client.list_logged_model_artifacts(model_id, FOLDER))


def upload(client: MlflowClient, run: Run, trained: TrainedModel, folder: Path) -> str:
    """Create a logged model of a run from a folder and return its id. A failure leaves no model behind."""
    from mlflow.entities import LoggedModelOutput

    tags = {"candidate": trained.candidate, KEY_TAG: trained.key, "weights_sha256": trained.weights_sha256}
    experiment, run_id = run.info.experiment_id, run.info.run_id

    def create(mark: str) -> str:
        """Create the logged model with this mark and return its id."""
        created = client.create_logged_model(
            experiment,
            name=trained.candidate,
            source_run_id=run_id,
            tags={**tags, MARK: mark},
            params=shown_params(CandidateParams.model_validate(trained.params)),
        )
        return str(created.model_id)

    def find(mark: str) -> str | None:
        """Return the id of the logged model that bears this mark, or None."""
        own = client.search_logged_models([experiment], f"tags.`{MARK}` = '{mark}'")
        return str(own[0].model_id) if own else None

    model_id = create_once(create, find)
    try:
        client.log_model_artifacts(model_id, str(folder))
        client.finalize_logged_model(model_id, "READY")
        create_once(
            lambda _: client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)]) or True,
            lambda _: _is_output(client, run_id, model_id) or None,
        )
    except BaseException:
        with suppress(Exception):  # what stays pending the next registration removes
            client.delete_logged_model(model_id)
        raise
    return model_id


def _is_output(client: MlflowClient, run_id: str, model_id: str) -> bool:
    """Tell whether the run lists the logged model among its outputs."""
    outputs = client.get_run(run_id).outputs
    return outputs is not None and any(output.model_id == model_id for output in outputs.model_outputs)


def remove_twins(
    client: MlflowClient, run: Run, trained: TrainedModel, source: str | None, used: Callable[[], set[str]]
) -> None:
    """Delete the run's other logged models of these weights, left by a killed registration or a lost answer.

    Args:
        source: of the run's version, models:/ and the id of the logged model that it is made of.
        used: asks for those of all versions, which takes long where there are many; only twins need it.
    """
    twins = {str(twin.model_id) for twin in _find_models(client, run, trained)} - {str(source).removeprefix("models:/")}
    for model_id in twins - used() if twins else ():
        client.delete_logged_model(model_id)


def tell_version(client: MlflowClient, model_id: str, name: str, version: int, description: str) -> None:
    """Write a version and its description to its logged model's page. A server does that itself, other stores don't."""
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS, MLFLOW_RUN_NOTE

    known = json.loads(client.get_logged_model(model_id).tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
    if all((entry["name"], int(entry["version"])) != (name, version) for entry in known):
        known.append({"name": name, "version": str(version)})
    client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps(known), MLFLOW_RUN_NOTE: description})


def find_model(client: MlflowClient, run: Run, trained: TrainedModel) -> str | None:
    """Return the id of the run's finished logged model with these weights, or None; one with a version comes first."""
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

    ready = [found for found in _find_models(client, run, trained) if found.status.value == "READY"]
    ready.sort(key=lambda found: (MLFLOW_MODEL_VERSIONS not in found.tags, found.creation_timestamp, found.model_id))
    return str(ready[0].model_id) if ready else None


def _find_models(client: MlflowClient, run: Run, trained: TrainedModel) -> list[LoggedModel]:
    """Search for all logged models of the run with these weights, finished or not."""
    return list(
        client.search_logged_models(
            [run.info.experiment_id],
            filter_string=f"tags.weights_sha256 = '{trained.weights_sha256}' AND source_run_id = '{run.info.run_id}'",
        )
    )


def save_model(model: Path, folder: Path, *, run_id: str | None = None) -> None:
    """Write a candidate as an MLflow model without pickle: image_BCHW float32 in [0, 1] to probability_BKHW float32.

    Of a network for volumes they are BCDHW and BKDHW, at the candidate's spacing.

    The saved program is loaded again and must give the eager program's numbers on three sizes, one of them cut into
    windows.
    """
    import mlflow.pytorch
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    from segops.inference.trained import load_program

    program, trained = load_program(model)
    outputs, sides = trained.class_channels + trained.object_channel, (-1,) * program.dimensions
    kind = np.dtype("float32")
    mlflow.pytorch.save_model(
        program,
        str(folder),
        mlflow_model=Model(run_id=run_id),
        serialization_format="pt2",
        # A batch of 1 would freeze the batch size.
        input_example=_noise(2, program.channels, *_EXAMPLE[-program.dimensions :]),
        signature=ModelSignature(
            inputs=Schema([TensorSpec(kind, (-1, program.channels, *sides))]),
            outputs=Schema([TensorSpec(kind, (-1, outputs, *sides))]),
        ),
        pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in _PACKAGES],
        metadata=trained.model_dump(include={"candidate", "rule", "threshold", "cleaning", "classes", "class_colours"}),
    )
    _check_saved(program, folder)


def _check_saved(program: Program, folder: Path) -> None:
    """Load the saved program and assert that it gives the eager program's numbers on three sizes."""
    import torch
    from mlflow import pyfunc

    saved = pyfunc.load_model(str(folder), model_config={"device": "cpu"})
    for batch, *sides in _checked_sizes(program.programs[0]):
        image_BCHW = _noise(batch, program.channels, *sides)
        with torch.inference_mode():
            expected = program(torch.from_numpy(image_BCHW)).numpy()
        worst = float(np.abs(saved.predict(image_BCHW) - expected).max())
        assert worst < _TOLERANCE, f"the exported program differs by {worst} at {image_BCHW.shape}"


def _checked_sizes(program: SegmentationProgram) -> list[tuple[int, ...]]:
    """Return batch and sides of the inputs that a saved program is checked with; the last is cut into windows."""
    from segops.inference.volume_program import VolumeProgram

    if isinstance(program, VolumeProgram):
        depth, *plane = program.sides
        return [(1, *program.sides), (3, *(side // 2 + 1 for side in program.sides)), (1, depth + 1, *plane)]
    _, cut_beyond_w = program.windows.whole_up_to_hw or program.windows.size_hw
    return [(1, 64, 64), (3, 50, 83), (1, 32, cut_beyond_w + 1)]


def _noise(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Draw a fixed random float32 array in [0, 1) of this shape."""
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def _copy(source: Path, names: tuple[str, ...], target: Path) -> None:
    """Copy the named files from one folder into another, which is made if missing."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(source / name, target / name)
