"""compare: ranked on validation, honest about chance, and the only one that sets `challenger`."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest

from segops.cli.printing import print_leaderboard, setbacks
from segops.comparison.entrants import read_entrant, refuse_mixed
from segops.contracts.comparison import Comparison
from segops.contracts.registration import Registration
from segops.contracts.scores import Interval
from segops.errors import UserError
from segops.files import sha256_lines
from segops.params.compare import CompareParams
from segops.params.tracking import TrackingParams
from segops.stages.compare import compare, rank
from segops.tracking import registry, store
from tests.support.judged_candidates import add_version, folders, write_candidate, write_registration
from tests.support.mlflow_server import own_names

pytest_plugins = ["tests.support.mlflow_stores"]

PARAMS = CompareParams()


def _candidates(root: Path, tracking: TrackingParams) -> list[str]:
    """a is best on test, b leads on validation, c is worst and not registered."""
    dices = {"a": (0.7, 0.95), "b": (0.8, 0.60), "c": (0.1, 0.1)}
    for name, (val, test) in dices.items():
        given: dict[str, Any] = {"val": [val] * 8, "test": [test] * 8}
        if name == "c":
            write_candidate(root, name, **given)
            write_registration(root, tracking, name, None)
        else:
            write_registration(root, tracking, name, add_version(root, tracking, name, **given))
    return list(dices)


def _compare(root: Path, tracking: TrackingParams, names: list[str]) -> Comparison:
    places = folders(root)
    return compare(PARAMS, tracking, names, reports=places.reports, models=places.models, comparison=places.comparison)


@pytest.mark.parametrize("tracking", ["file", pytest.param("server", marks=pytest.mark.slow)], indirect=True)
def test_validation_ranks_test_is_shown_and_the_leader_is_challenger(tracking: TrackingParams, tmp_path: Path) -> None:
    names = _candidates(tmp_path, tracking)
    (folders(tmp_path).reports / "left_over").mkdir()
    made = _compare(tmp_path, tracking, names)
    assert [(one.rank, one.candidate) for one in made.standings] == [(1, "b"), (2, "a"), (3, "c")]
    assert made.challenger == "b"
    client = store.client()
    assert registry.alias(client, tracking.model_name, "challenger") == made.standings[0].version
    # Every image differs by the same amount, so the interval is a point, and of 8 groups p is 2 of 2^8 cases. It is the
    # same for all three pairs: Holm takes it three times.
    by_subset = {one.subset: one for one in made.differences if (one.a, one.b) == ("b", "a")}
    assert by_subset["val"].difference == Interval(mean=0.1, low=0.1, high=0.1, groups=8)
    assert (by_subset["val"].p, by_subset["val"].adjusted_p, by_subset["val"].effect) == (2 / 256, 6 / 256, 1.0)
    assert by_subset["test"].difference.mean == pytest.approx(-0.35)
    assert by_subset["test"].effect == -1.0
    assert by_subset["val"].real
    assert by_subset["test"].real
    assert [(one.a, one.b) for one in made.differences if one.subset == "val"] == [("b", "a"), ("b", "c"), ("a", "c")]
    assert Comparison.load(folders(tmp_path).comparison) == made

    # Without a registered candidate nobody is challenger.
    for name in names:
        write_registration(tmp_path, tracking, name, None)
    assert _compare(tmp_path, tracking, names).challenger is None
    assert registry.alias(client, tracking.model_name, "challenger") is None


def test_files_are_the_same_bytes_each_time_and_read_offline(file_store: Path, tmp_path: Path) -> None:
    tracking, folder = own_names(), folders(tmp_path).comparison
    names = _candidates(tmp_path, tracking)
    _compare(tmp_path, tracking, names)
    first = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.json"}
    assert set(first) == {"comparison.json", "leaderboard.csv", "index.html"}
    shutil.rmtree(folder)
    _compare(tmp_path, tracking, names)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.json"} == first
    page = first["index.html"].decode()
    assert 'href="../candidates/b/gallery.html"' in page
    assert "val00, group group00 (validation): b 0.800, a 0.700" in page
    with (folder / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["candidate"] for row in rows] == ["b", "a", "c"]
    assert (rows[1]["test_dice"], rows[2]["reason"]) == ("0.95", "validation Dice 0.1 is below the floor 0.5")


def test_the_page_stands_in_the_run_of_every_compared_candidate(
    file_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking, client = own_names(), store.client()
    names = _candidates(tmp_path, tracking)

    def logged() -> list[Path]:
        _compare(tmp_path, tracking, names)
        runs = client.search_runs([store.experiment_id(client, tracking.experiment)], order_by=["tags.candidate"])
        return [Path(run.info.artifact_uri.removeprefix("file://")) / "comparison/index.html" for run in runs]

    a, b = first = logged()
    assert "MLflow has no run of 'c' for the comparison page" in capsys.readouterr().err
    text = a.read_text(encoding="utf-8")
    assert text == b.read_text(encoding="utf-8")
    assert "Which candidate to take" in text
    assert "gallery.html" not in text  # a link that leads nowhere there
    written = [path.stat().st_mtime_ns for path in first]
    assert [path.stat().st_mtime_ns for path in logged()] == written
    names.remove("c")
    logged()
    assert a.read_text(encoding="utf-8") == b.read_text(encoding="utf-8") != text


def test_a_lead_that_could_be_chance_is_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracking = own_names()
    write_candidate(tmp_path, "a", val=(0.9, 0.5, 0.9, 0.5), test=(0.5, 0.5))
    write_candidate(tmp_path, "b", val=(0.5, 0.9, 0.5, 0.8), test=(0.5, 0.5))
    for name in ("a", "b"):
        write_registration(tmp_path, tracking, name, None)
    places = folders(tmp_path)
    made = rank([read_entrant(name, places.reports / name, places.models / name) for name in ("b", "a")], PARAMS)
    assert made.differences[0].difference.side == 0
    assert not made.differences[0].real
    print_leaderboard(made)
    shown = capsys.readouterr().out
    assert "a - b, validation Dice: +0.0250" in shown
    assert "could be chance: the interval holds 0" in shown
    assert shown.startswith("Take none: nobody reaches the floors (a: ")
    assert "no challenger" in shown


def test_where_the_leader_falls_behind_is_said(tmp_path: Path) -> None:
    # a leads by its fluorescence images and loses 0.2 on histology.
    write_candidate(tmp_path, "a", val=(0.9, 0.5) * 5, test=(0.9, 0.7) * 5)
    write_candidate(tmp_path, "b", val=(0.5, 0.7) * 5, test=(0.5, 0.7) * 5)
    for name in ("a", "b"):
        write_registration(tmp_path, own_names(), name, None)
    places = folders(tmp_path)
    made = rank([read_entrant(name, places.reports / name, places.models / name) for name in ("a", "b")], PARAMS)
    assert setbacks(made) == ["a falls behind b, validation Dice: modality histology -0.2000"]


def test_equal_scores_rank_by_name(tmp_path: Path) -> None:
    tracking, places = own_names(), folders(tmp_path)
    for name in ("b", "a"):
        write_candidate(tmp_path, name)
        write_registration(tmp_path, tracking, name, None)
    entrants = [read_entrant(name, places.reports / name, places.models / name) for name in ("b", "a")]
    assert [one.candidate for one in rank(entrants, PARAMS).standings] == ["a", "b"]


def test_mixed_test_sets_are_refused_by_name(tmp_path: Path) -> None:
    tracking, places = own_names(), folders(tmp_path)
    other = sha256_lines(["another test set"])
    for name, test_sha256 in (("a", other), ("b", sha256_lines(["test set"])), ("c", other)):
        write_candidate(tmp_path, name, test_sha256=test_sha256)
        write_registration(tmp_path, tracking, name, None)
    entrants = [read_entrant(name, places.reports / name, places.models / name) for name in ("a", "b", "c")]
    with pytest.raises(UserError, match=rf"different test_sha256 .*{other[:12]}: a, c; .*: b"):
        refuse_mixed(entrants)
    refuse_mixed([entrants[0], entrants[2]])


def test_a_listed_candidate_without_a_report_is_named(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    write_candidate(tmp_path, "a")
    write_registration(tmp_path, tracking, "a", None)
    with pytest.raises(UserError, match=r"models/candidates/b/model.json: no such file"):
        _compare(tmp_path, tracking, ["a", "b"])
    assert not folders(tmp_path).comparison.exists()


def test_a_registration_of_other_weights_is_refused(tmp_path: Path) -> None:
    tracking, places = own_names(), folders(tmp_path)
    write_candidate(tmp_path, "a")
    write_registration(tmp_path, tracking, "a", None)
    old = Registration.load(places.reports / "a").model_copy(update={"weights_sha256": "0" * 64})
    old.save(places.reports / "a")
    with pytest.raises(
        UserError, match=r"registration.json is of other weights than .*metrics.json; run register for 'a'"
    ):
        read_entrant("a", places.reports / "a", places.models / "a")


@pytest.mark.parametrize("kind", ["no version", "other weights"])
def test_a_store_that_lost_the_challenger_names_the_way_back(file_store: Path, tmp_path: Path, kind: str) -> None:
    tracking = own_names()
    write_candidate(tmp_path, "a")
    write_registration(tmp_path, tracking, "a", 1)
    if kind == "other weights":
        client = store.client()
        client.create_registered_model(tracking.model_name)
        client.create_model_version(tracking.model_name, source=(tmp_path / "x").as_uri())
    with pytest.raises(UserError, match="run `segops register --missing`"):
        _compare(tmp_path, tracking, ["a"])
    assert not (folders(tmp_path).comparison / Comparison.FILE).exists()
