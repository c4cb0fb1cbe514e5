from __future__ import annotations

from pathlib import Path

from components.ingest import ingest
from components.ingest_join import ingest_join
from components.ingest_part import ingest_part
from segops.params.compact import as_text
from tests.support.component_steps import refused, run_step
from tests.support.factories import ingest_params, make_pairs


def test_parts_join_to_what_one_step_ingests_and_tell_the_faults_of_all(tmp_path: Path) -> None:
    raw = make_pairs(tmp_path / "raw", n=20)
    given = {"params": as_text(ingest_params(raw)), "data": "", "code": ""}

    def parts(folder: Path) -> list[Path]:
        made = [run_step(ingest_part, folder / str(n), number=n, parts=2, **given)["part"] for n in (1.0, 0.0)]
        assert [part.metadata["number"] for part in made] == [1, 0]
        return [Path(part.path) for part in made]

    joined = run_step(ingest_join, tmp_path / "joined", parts=parts(tmp_path / "good"), **given)["dataset"]
    whole = run_step(ingest, tmp_path / "whole", **given)["dataset"]
    assert joined.metadata == whole.metadata
    for name in ("manifest.parquet", "dataset.json", "shards/shard-00000.tar"):
        assert (Path(joined.path) / name).read_bytes() == (Path(whole.path) / name).read_bytes()

    for name in ("001", "019"):
        (raw / "images" / f"{name}.png").write_bytes(b"no image")
    with refused(r"^segops: images/001\.png: .* \(and 1 more of 20 images, listed above\)"):
        run_step(ingest_join, tmp_path / "refused", parts=parts(tmp_path / "bad"), **given)
