"""promote, rollback, history: one winner, and a ledger that says who did what and why."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch
import yaml

from segops.cli.printing import print_history
from segops.commands.history import history
from segops.commands.promote import Declined, GateRefused, promote, rollback
from segops.commands.used_model import used_model
from segops.contracts.decision import Decision
from segops.contracts.model import TrainedModel
from segops.contracts.noise import Noise
from segops.errors import UserError
from segops.files import sha256_file, sha256_lines
from segops.params.promote import PromoteParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.tracking import registry, store
from tests.support.judged_candidates import TEST_SHA256, add_version
from tests.support.mlflow_server import MlflowServer, own_names
from tests.support.person import Person

pytest_plugins = ["tests.support.mlflow_stores"]

PARAMS = PromoteParams(min_groups=2, min_subgroup_images=2)
RUNTIME = RuntimeParams(threads=1, device="cpu")


def _yes(question: str) -> bool:
    return True


def _entries(tracking: TrackingParams) -> list[Decision]:
    return history(tracking).decisions


def _champion(tracking: TrackingParams) -> int | None:
    return registry.alias(store.client(), tracking.model_name, registry.CHAMPION)


def test_promotion_and_rollback_from_the_store_alone(
    tracking: TrackingParams, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = add_version(tmp_path, tracking, "a", test=[0.8] * 4)
    second = add_version(tmp_path, tracking, "b", test=[0.9] * 4)
    registry.set_alias(store.client(), tracking.model_name, registry.CHALLENGER, second)
    (tmp_path / "reports").rename(tmp_path / "elsewhere")  # the gate reads MLflow, not local files

    made = promote(str(first), PARAMS, RUNTIME, tracking, confirm=_yes, reason="the first", who="ann")
    assert (made.number, made.from_version, made.to_version, made.test_reads) == (1, None, first, 1)
    client = store.client()
    client.set_tag(client.get_model_version(tracking.model_name, str(second)).run_id, "decision", "Take b.")
    made = promote("challenger", PARAMS, RUNTIME, tracking, confirm=_yes)
    assert (made.number, made.from_version, made.to_version, made.test_reads) == (2, first, second, 2)
    assert _champion(tracking) == second
    shown = capsys.readouterr().err
    assert "compare  Take b.\n" in shown
    assert "passed  not worse than the champion: paired difference in test Dice +0.1000" in shown
    assert "The gate has read this test set 2 times, this one included\n" in shown

    back = rollback(tracking, confirm=_yes, reason="too slow", who="bob")
    assert (back.number, back.from_version, back.to_version) == (3, second, first)
    assert _champion(tracking) == first
    with pytest.raises(UserError, match="no champion before the present one"):
        rollback(tracking, confirm=_yes)

    assert [(one.action, one.to_version, one.reason) for one in _entries(tracking)] == [
        ("promote", first, "the first"),
        ("promote", second, None),
        ("rollback", first, "too slow"),
    ]
    assert _entries(tracking)[0].who == "ann"
    print_history(tracking)
    shown = capsys.readouterr().out
    assert f"{second} → {first}" in shown
    assert "too slow" in shown


def test_a_refused_version_leaves_the_champion_and_an_entry(tracking: TrackingParams, tmp_path: Path) -> None:
    first = add_version(tmp_path, tracking, "a", test=[0.9] * 4)
    worse = add_version(tmp_path, tracking, "b", test=[0.7] * 4)
    promote(str(first), PARAMS, RUNTIME, tracking, confirm=_yes)
    with pytest.raises(GateRefused, match=f"the gate refused version {worse}: not worse than the champion") as caught:
        promote(str(worse), PARAMS, RUNTIME, tracking, confirm=_yes)
    assert caught.value.exit_code == 3
    assert _champion(tracking) == first
    refused = _entries(tracking)[-1]
    assert (refused.number, refused.action, refused.test_reads) == (None, "refused", 2)
    assert [check.name for check in refused.checks if check.passed is False] == [
        "not worse than the champion",
        "modality fluorescence",
        "modality histology",
    ]


def test_who_says_no_changes_nothing_but_the_count_of_readings(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    version = add_version(tmp_path, tracking, "a")
    params = PARAMS.model_copy(update={"min_test_dice": 0.95})
    with pytest.raises(Declined):
        promote(str(version), params, RUNTIME, tracking, confirm=lambda question: False, override="in a hurry")
    assert _champion(tracking) is None
    assert [(one.action, one.number, one.override) for one in _entries(tracking)] == [("declined", None, False)]


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(tracking: TrackingParams, tmp_path: Path) -> None:
    versions = [add_version(tmp_path, tracking, name, test=[0.9] * 4) for name in ("a", "b")]
    agreed = threading.Barrier(2)
    outcomes: dict[int, str] = {}

    def both_say_yes(question: str) -> bool:
        agreed.wait(60)
        return True

    def run(version: int) -> None:
        try:
            outcomes[version] = f"won {promote(str(version), PARAMS, RUNTIME, tracking, confirm=both_say_yes).number}"
        except UserError as error:
            outcomes[version] = str(error)

    threads = [threading.Thread(target=run, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome == "won 1" for outcome in outcomes.values()) == [False, True], outcomes
    winner = next(version for version, outcome in outcomes.items() if outcome == "won 1")
    loser = next(outcome for outcome in outcomes.values() if outcome != "won 1")
    assert "decision 1" in loser
    assert "nothing was changed" in loser
    assert _champion(tracking) == winner
    assert [one.to_version for one in _entries(tracking)] == [winner]


@pytest.mark.slow
def test_of_two_people_who_promote_at_once_one_wins_and_the_other_gets_a_line(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    tracking = own_names()
    versions = [add_version(tmp_path, tracking, name, test=[0.9] * 4) for name in ("a", "b")]
    params = {
        "tracking": tracking.model_dump(),
        "ingest": {"source": "unused"},
        "candidates": {"net": {"model": {"architecture": "unet"}}},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    people = [Person(tmp_path, f"promote {version}") for version in versions]
    for person in people:
        person.wait_for("[y/N]:")
    for person in people:
        person.types("y\n")
    codes = [person.ends() for person in people]
    assert sorted(codes) == [0, 1], [person.stderr for person in people]
    won, lost = codes.index(0), codes.index(1)
    assert f"decision 1: champion is version {versions[won]}\n" in people[won].stdout
    *_, line = people[lost].stderr.splitlines()
    assert line.startswith("segops: ")
    assert "decision 1" in line
    assert "nothing was changed" in line
    assert "champion is version" not in people[lost].stdout
    assert [(one.number, one.to_version) for one in _entries(tracking)] == [(1, versions[won])]
    assert _champion(tracking) == versions[won]


def test_an_alias_moved_by_hand_in_between_is_noticed(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    first, second = (add_version(tmp_path, tracking, name, test=[0.9] * 4) for name in ("a", "b"))

    def somebody_moves_it(question: str) -> bool:
        registry.set_alias(store.client(), tracking.model_name, registry.CHAMPION, second)
        return True

    with pytest.raises(UserError, match=f"became version {second} meanwhile; nothing was changed"):
        promote(str(first), PARAMS, RUNTIME, tracking, confirm=somebody_moves_it)
    assert _champion(tracking) == second
    with pytest.raises(UserError, match="no champion before"):
        rollback(tracking, confirm=_yes)


def test_an_alias_moved_by_hand_is_told_undone_and_recorded(
    file_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking, client = own_names(), store.client()
    good, bad, other = (
        add_version(tmp_path, tracking, name, test=[dice] * 4) for name, dice in (("a", 0.9), ("b", 0.6), ("c", 0.7))
    )
    promote(str(good), PARAMS, RUNTIME, tracking, confirm=_yes)
    print_history(tracking)
    registry.set_alias(client, tracking.model_name, registry.CHAMPION, bad)
    by_hand = f"stands on version {bad}, but decision 1 made it {good}: it was moved by hand"
    with pytest.raises(UserError, match=by_hand):
        print_history(tracking)
    with used_model("champion", tracking) as used:
        assert used.shown.endswith(f"version {bad}, champion by hand, by no decision (the ledger's is version {good}; "
                                   "see `segops history`)")  # fmt: skip
    with used_model(str(good), tracking) as used:
        assert used.shown.endswith(
            "champion by decision 1, but the alias was moved away by hand (see `segops history`)"
        )
    with pytest.raises(GateRefused):  # against the ledger's champion: the other one must not lower the bar
        promote(str(other), PARAMS, RUNTIME, tracking, confirm=_yes)
    with pytest.raises(GateRefused):  # nor may the one that was put there
        promote(str(bad), PARAMS, RUNTIME, tracking, confirm=_yes)
    capsys.readouterr()
    made = rollback(tracking, confirm=_yes)
    assert by_hand in capsys.readouterr().err
    assert (made.number, made.from_version, made.to_version, made.by_hand) == (2, bad, good, True)
    print_history(tracking)
    assert f"{bad} (by hand) → {good}" in capsys.readouterr().out
    with pytest.raises(UserError, match="no champion before the present one"):
        rollback(tracking, confirm=_yes)

    client.delete_registered_model_alias(tracking.model_name, registry.CHAMPION)
    with pytest.raises(UserError, match=f"stands on no version, but decision 2 made it {good}"):
        print_history(tracking)
    made = promote(str(good), PARAMS, RUNTIME, tracking, confirm=_yes)
    assert (made.number, made.from_version, made.to_version, made.by_hand) == (3, None, good, True)


@pytest.mark.parametrize("file", ["per_image.csv", "metrics.json"])
@pytest.mark.parametrize("tags", ["kept", "changed too"])
def test_evidence_that_was_edited_in_the_store_is_refused(
    file_store: Path, tmp_path: Path, file: str, tags: str
) -> None:
    tracking = own_names()
    first = add_version(tmp_path, tracking, "a", test=[0.8] * 4)
    worse = add_version(tmp_path, tracking, "b", test=[0.6] * 4)
    promote(str(first), PARAMS, RUNTIME, tracking, confirm=_yes)
    [stored] = (path for path in tmp_path.glob(f"mlartifacts/**/{file}") if "0.6," in path.read_text())
    stored.write_text(stored.read_text().replace("0.6,", "0.99,"))  # Dice, of rows or of the mean
    if tags == "changed too":
        tag = file.replace(".csv", "_sha256").replace(".json", "_sha256")
        store.client().set_model_version_tag(tracking.model_name, str(worse), tag, sha256_file(stored))
    message = f"another {file} than it was registered" if tags == "kept" else "contradict each other: test mean dice is"
    with pytest.raises(UserError, match=message):
        promote(str(worse), PARAMS, RUNTIME, tracking, confirm=_yes)
    assert _champion(tracking) == first


def test_a_user_learns_what_there_is(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    with pytest.raises(UserError, match=f"has no version of '{tracking.model_name}'; run `dvc repro`"):
        promote("challenger", PARAMS, RUNTIME, tracking, confirm=_yes)
    version = add_version(tmp_path, tracking, "a")
    with pytest.raises(UserError, match=rf"has no version 99; its versions: {version} "):
        promote("99", PARAMS, RUNTIME, tracking, confirm=_yes)
    with pytest.raises(UserError, match="has no alias 'challenger'"):
        promote("challenger", PARAMS, RUNTIME, tracking, confirm=_yes)
    promote(str(version), PARAMS, RUNTIME, tracking, confirm=_yes)
    with pytest.raises(UserError, match=f"version {version} of .* is the champion already"):
        promote(str(version), PARAMS, RUNTIME, tracking, confirm=_yes)
    with pytest.raises(UserError, match="--reason has 1001 characters"):
        promote(str(version), PARAMS, RUNTIME, tracking, confirm=_yes, reason="x" * 1001)


def test_a_version_that_segops_did_not_make_is_named(file_store: Path, tmp_path: Path) -> None:
    tracking, client = own_names(), store.client()
    client.create_registered_model(tracking.model_name)
    client.create_model_version(tracking.model_name, source=(tmp_path / "somewhere").as_uri())
    with pytest.raises(UserError, match=r"version 1 holds no candidate/metrics\.json"):
        promote("1", PARAMS, RUNTIME, tracking, confirm=_yes)


def test_an_empty_ledger_says_how_to_begin(file_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_history(own_names())
    assert "`segops promote challenger` makes the first" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------- overriding


def test_an_override_promotes_what_fails_and_says_so_for_good(
    file_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking = own_names()
    first = add_version(tmp_path, tracking, "a", test=[0.9] * 4)
    worse = add_version(tmp_path, tracking, "b", test=[0.8] * 4)
    promote(str(first), PARAMS, RUNTIME, tracking, confirm=_yes)
    asked: list[str] = []

    def agrees(question: str) -> bool:
        asked.append(question)
        return True

    made = promote(
        str(worse), PARAMS, RUNTIME, tracking, confirm=agrees,
        override="four times as fast", who="ann",
    )  # fmt: skip
    assert asked[0].endswith("though it fails: not worse than the champion, modality fluorescence, modality histology?")
    assert (made.action, made.override, made.reason, made.number) == ("promote", True, "four times as fast", 2)
    assert _champion(tracking) == worse
    entry = _entries(tracking)[-1]
    assert (entry.override, entry.reason, len(entry.failed)) == (True, "four times as fast", 3)
    capsys.readouterr()
    print_history(tracking)
    shown = capsys.readouterr().out
    assert "override" in shown
    assert "not worse than" in shown


def test_an_override_that_nothing_needs_is_a_reason(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    version = add_version(tmp_path, tracking, "a", test=[0.9] * 4)
    made = promote(str(version), PARAMS, RUNTIME, tracking, confirm=_yes, override="in a hurry")
    assert (made.override, made.reason) == (False, "in a hurry")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"override": " "}, '--override needs the reason that the ledger keeps: --override "why"'),
        ({"override": "x" * 1001}, "--override has 1001 characters"),
        ({"override": "a", "reason": "b"}, "--override gives the reason already; leave out --reason"),
    ],
)
def test_an_override_without_one_reason_is_refused_before_the_test_set_is_read(
    given: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        promote("1", PARAMS, RUNTIME, own_names(), confirm=_yes, **given)


def test_another_test_set_can_be_overridden(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    first = add_version(tmp_path, tracking, "a", test=[0.9] * 4)
    grown = add_version(tmp_path, tracking, "b", test=[0.8] * 6, test_sha256=sha256_lines(["grown"]))
    promote(str(first), PARAMS, RUNTIME, tracking, confirm=_yes)
    with pytest.raises(GateRefused, match="same test set"):
        promote(str(grown), PARAMS, RUNTIME, tracking, confirm=_yes)
    made = promote(str(grown), PARAMS, RUNTIME, tracking, confirm=_yes, override="the data set grew")
    assert {check.name: check.passed for check in made.checks} == {
        "same test set": False, "test Dice floor": True, "test IoU floor": True,
    }  # fmt: skip
    assert (_champion(tracking), made.test_reads) == (grown, 2)


# ---------------------------------------------------------------------------------------------- what the store holds


def test_ceilings_are_judged_by_what_the_registered_weights_cost_here(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    version = add_version(tmp_path, tracking, "a")
    params = PARAMS.model_copy(update={"max_parameters": 10, "max_weights_mib": 100.0, "max_milliseconds": 1e-6})
    torch.set_num_threads(2)  # the time is measured with those of the params
    with pytest.raises(GateRefused, match=f"refused version {version}: parameters, time an image; with a reason"):
        promote(str(version), params, RUNTIME, tracking, confirm=_yes)
    found = {check.name: check for check in _entries(tracking)[0].checks}
    weights = tmp_path / "models/candidates/a/weights.safetensors"
    assert found["parameters"].value == TrainedModel.load(tmp_path / "models/candidates/a").parameters
    assert found["weights"].value == weights.stat().st_size / 2**20
    assert found["time an image"].detail.endswith("(64x64 px on cpu, 1 thread)")


def test_the_noise_of_seeds_comes_with_the_version(file_store: Path, tmp_path: Path) -> None:
    tracking, client = own_names(), store.client()
    first = add_version(tmp_path, tracking, "a", test=[0.8] * 4)
    second = add_version(tmp_path, tracking, "b", test=[0.82] * 4)
    promote(str(first), PARAMS, RUNTIME, tracking, confirm=_yes)
    noise = Noise(
        candidate="b", key=sha256_lines(["b"]), seeds=[0, 1], val_dice=[0.8, 0.8], deviation=0.001, floor=0.03
    )
    noise.save(tmp_path)
    client.log_artifact(client.get_model_version(tracking.model_name, str(second)).run_id, str(tmp_path / Noise.FILE))
    params = PARAMS.model_copy(update={"min_gain": 0.01})
    with pytest.raises(GateRefused, match=f"refused version {second}: gain above the noise of seeds"):
        promote(str(second), params, RUNTIME, tracking, confirm=_yes)


def test_who_breaks_off_has_read_the_test_set(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    version = add_version(tmp_path, tracking, "a")

    def breaks_off(question: str) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        promote(str(version), PARAMS, RUNTIME, tracking, confirm=breaks_off)
    assert [(one.action, one.test_reads) for one in _entries(tracking)] == [("declined", 1)]


def test_many_readings_of_a_test_set_are_a_warning(
    file_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking = own_names()
    version = add_version(tmp_path, tracking, "a")
    monkeypatch.setattr(
        "segops.tracking.ledger_snapshot.Snapshot.test_reads", lambda self, sha256: 20 * (sha256 == TEST_SHA256)
    )
    promote(str(version), PARAMS, RUNTIME, tracking, confirm=_yes)
    assert "read this test set 21 times, this one included; after so many readings a small gain" in (
        capsys.readouterr().err
    )


# --------------------------------------------------------------------------------------------- rollback and history


def test_rollback_to_any_former_champion(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    one, two, three, four = (add_version(tmp_path, tracking, name, test=[0.9] * 4) for name in "abcd")
    for version in (one, two, three):
        promote(str(version), PARAMS, RUNTIME, tracking, confirm=_yes)
    with pytest.raises(UserError, match=rf"version {four} .* was never the champion \(these were: {one}, {two}\)"):
        rollback(tracking, confirm=_yes, to=four)
    with pytest.raises(UserError, match=f"version {three} of .* is the champion already"):
        rollback(tracking, confirm=_yes, to=three)
    made = rollback(tracking, confirm=_yes, to=one)
    assert (made.number, made.candidate, _champion(tracking)) == (4, "a", one)


def test_the_ledger_as_lines_of_json_shows_what_was_changed_afterwards(file_store: Path, tmp_path: Path) -> None:
    tracking, client = own_names(), store.client()
    first = add_version(tmp_path, tracking, "a", test=[0.9] * 4)
    worse = add_version(tmp_path, tracking, "b", test=[0.7] * 4)
    promote(str(first), PARAMS, RUNTIME, tracking, confirm=_yes, who="ann")
    with pytest.raises(GateRefused):
        promote(str(worse), PARAMS, RUNTIME, tracking, confirm=_yes)
    promote(str(worse), PARAMS, RUNTIME, tracking, confirm=_yes, override="a trial")
    lines = history(tracking).lines
    entries = [json.loads(line) for line in lines]
    assert [one["previous"] for one in entries] == [[], [sha256_lines(lines[:1])], [sha256_lines(lines[1:2])]]
    assert entries[2]["checks"][0]["name"] == "same test set"
    print_history(tracking)

    experiment = client.get_experiment_by_name(f"{tracking.experiment}-decisions")
    assert experiment is not None
    refusal = client.search_runs([experiment.experiment_id], filter_string="params.action = 'refused'")[0].info.run_id
    [tag] = [name for name in client.get_run(refusal).data.tags if name.startswith("segops.decision.")]
    client.set_tag(refusal, tag, lines[1].replace('"passed":false', '"passed":true'))
    with pytest.raises(UserError, match=r"decision 2 of .* follows an entry .* that was changed or removed afterwards"):
        print_history(tracking)
    client.delete_run(refusal)
    with pytest.raises(UserError, match=r"decision 2 of .* follows an entry"):
        print_history(tracking)


def test_a_first_champion_that_was_put_there_by_hand_is_not_compared_with_itself(
    file_store: Path, tmp_path: Path
) -> None:
    tracking = own_names()
    version = add_version(tmp_path, tracking, "a", test=[0.9] * 4)
    registry.set_alias(store.client(), tracking.model_name, registry.CHAMPION, version)
    made = promote(str(version), PARAMS, RUNTIME, tracking, confirm=_yes)
    assert (made.number, made.from_version, made.to_version, made.by_hand) == (1, version, version, True)
    assert [check.name for check in made.checks] == ["test Dice floor", "test IoU floor"]
