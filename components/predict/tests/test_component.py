from __future__ import annotations

from pathlib import Path

from components.predict import predict
from segops.params.batch import BatchParams
from segops.params.compact import as_text
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from tests.support.component_steps import refused, run_step
from tests.support.factories import make_pairs
from tests.support.small_models import brightness_params, brightness_program, save_candidate

RUNTIME = as_text(RuntimeParams(threads=1, device="cpu"))
SETTINGS = {"runtime": RUNTIME, "tracking": as_text(TrackingParams()), "code": "", "data": ""}


def test_masks_a_table_and_a_note_of_what_cannot_be_read(tmp_path: Path) -> None:
    save_candidate(tmp_path / "model", brightness_program(), brightness_params())
    images = make_pairs(tmp_path / "new", n=2) / "images"
    (images / "bad.png").write_text("no PNG")
    params = BatchParams(source=str(images), model=str(tmp_path / "model"))
    made = run_step(predict, tmp_path, params=as_text(params), **SETTINGS)
    counts = {"part": 0, "masks": 2, "unreadable": 1}
    assert made["masks"].metadata == {"source": str(images), "model": params.model, **counts}
    files = {path.name for path in Path(made["masks"].path).iterdir()}
    assert files == {"000.png", "001.png", "predictions.csv"}
    note = Path(made["summary"].path).read_text()
    assert note.startswith("**2 masks** of")
    assert "bad.png" in note


def test_no_source_is_one_line(tmp_path: Path) -> None:
    with refused(r"^segops: batch\.source isn't set; name the images"):
        run_step(predict, tmp_path, params=as_text(BatchParams()), **SETTINGS)
    assert not (tmp_path / "masks").exists()
