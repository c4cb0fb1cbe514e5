from __future__ import annotations

from pathlib import Path

from components.predict import predict
from components.predict_join import predict_join
from segops.params.batch import BatchParams
from segops.params.compact import as_text
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from tests.support.component_steps import refused, run_step
from tests.support.factories import make_pairs
from tests.support.small_models import brightness_params, brightness_program, save_candidate

RUNTIME = as_text(RuntimeParams(threads=1, device="cpu"))
SETTINGS = {"runtime": RUNTIME, "tracking": as_text(TrackingParams()), "code": "", "data": ""}


def test_parts_in_any_order_join_to_what_one_step_writes(tmp_path: Path) -> None:
    save_candidate(tmp_path / "model", brightness_program(), brightness_params())
    images = make_pairs(tmp_path / "new", n=3) / "images"
    (images / "bad.png").write_text("no PNG")
    given = {"params": as_text(BatchParams(source=str(images), model=str(tmp_path / "model"))), **SETTINGS}
    whole = run_step(predict, tmp_path / "whole", **given)
    parts = [run_step(predict, tmp_path / str(n), number=n, parts=3, **given)["masks"] for n in (2.0, 0.0, 1.0)]
    joined = run_step(predict_join, tmp_path, params=given["params"], code="", parts=parts)
    for path in Path(whole["masks"].path).iterdir():
        assert (Path(joined["masks"].path) / path.name).read_bytes() == path.read_bytes()
    assert joined["masks"].metadata == {"source": str(images), "masks": 3, "unreadable": 1}
    assert Path(joined["summary"].path).read_text() == Path(whole["summary"].path).read_text()
    with refused(r"predict: parts \[1, 2\] of 3; each is needed once"):
        run_step(predict_join, tmp_path / "few", params=given["params"], code="", parts=[parts[0], parts[2]])
    mask = next(Path(parts[2].path).glob("*.png"))
    mask.write_bytes(mask.read_bytes()[:-1])
    with refused(r"\.png: not what the part's pod wrote; run that part again"):
        run_step(predict_join, tmp_path / "cut", params=given["params"], code="", parts=parts)


def test_no_image_of_any_part_is_one_line(tmp_path: Path) -> None:
    save_candidate(tmp_path / "model", brightness_program(), brightness_params())
    (tmp_path / "new").mkdir()
    for name in "ab":
        (tmp_path / "new" / f"{name}.png").write_text("no PNG")
    given = {"params": as_text(BatchParams(source=str(tmp_path / "new"), model=str(tmp_path / "model"))), **SETTINGS}
    parts = [run_step(predict, tmp_path / str(n), number=n, parts=2, **given)["masks"] for n in range(2)]
    with refused(r"none of 2 images can be read"):
        run_step(predict_join, tmp_path, params=given["params"], code="", parts=parts)
    assert not (tmp_path / "masks").exists()
