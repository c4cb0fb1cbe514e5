"""The modules whose code decides, the tests that hold each of them, and the mutants that no test can tell apart."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def _tests(*names: str) -> tuple[str, ...]:
    files = [path for name in names for path in (_ROOT / "tests").glob(f"**/test_{name}.py")]
    assert len(files) == len(names), names
    return tuple(path.relative_to(_ROOT).as_posix() for path in files)


_FILE_STORE = ("-k", "not server and not postgresql")  # a server takes seconds to start

# By module what pytest is given, the sharpest and quickest tests first.
DECIDES: dict[str, tuple[str, ...]] = {
    "src/segops/comparison/gate.py": _tests("gate"),
    "src/segops/evaluation/intervals.py": _tests("statistics", "paired"),
    "src/segops/evaluation/metrics.py": _tests("metrics", "class_metrics"),
    "src/segops/evaluation/mask_rule.py": _tests("decision"),
    "src/segops/evaluation/subgroups.py": _tests("subgroups", "paired"),
    "src/segops/comparison/paired.py": _tests("paired"),
    "src/segops/data/assignment.py": _tests("assignment"),
    "src/segops/data/grouping.py": _tests("grouping"),
    "src/segops/data/decoders/tiff.py": _tests("images", "masks"),
    "src/segops/data/masks.py": _tests("masks"),
    "src/segops/data/ignored.py": _tests("ignored"),
    "src/segops/inference/cleaning.py": _tests("cleaning"),
    "src/segops/inference/windows.py": _tests("windows"),
    "src/segops/training/checkpoint.py": _tests("checkpoint", "code_hash"),
    "src/segops/training/losses.py": _tests("losses", "ignored_pixels"),
    "src/segops/training/schedules.py": _tests("schedules"),
    "src/segops/evaluation/ranks.py": _tests("ranks"),
    "src/segops/evaluation/presence.py": _tests("presence", "gate", "paired", "scored_pixels"),
    "src/segops/evaluation/scored_pixels.py": _tests("scored_pixels"),
    "src/segops/comparison/verdict.py": _tests("verdict"),
    "src/segops/contracts/decision.py": _tests("ledger_snapshot"),
    "src/segops/tracking/ledger_snapshot.py": _tests("ledger_snapshot"),
    "src/segops/tracking/champion.py": _tests("champion"),
    "src/segops/tracking/creation.py": _tests("creation"),
    "src/segops/tracking/evidence.py": _tests("evidence"),
    "src/segops/tracking/promoted.py": (*_tests("used_model", "signing"), *_FILE_STORE),
    "src/segops/tracking/ledger.py": (*_tests("ledger", "signing", "champion", "promote"), *_FILE_STORE),
    "src/segops/commands/promote.py": (*_tests("promote", "signing"), *_FILE_STORE),
    "src/segops/contracts/trials.py": _tests("tune_choice"),
    "src/segops/tuning/study.py": (*_tests("search_decisions", "tune"), *_FILE_STORE),
    "src/segops/tuning/search.py": (*_tests("search_decisions", "tune_storages", "tune", "tune_choice"), *_FILE_STORE),
    "src/segops/tuning/confirm.py": (*_tests("tune_choice", "tune"), *_FILE_STORE),
    "pipelines/api.py": _tests("api", "submit", "following"),
    "pipelines/cluster.py": _tests("submit", "following"),
}

# (module, the line's code, the change): why no test can tell it from the code as it is.
EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("src/segops/data/grouping.py", "_BLOCK_ROWS = 256", "256 -> 257"): "memory alone",
    (
        "src/segops/data/grouping.py",
        "smallest = sorted(candidate[0] for candidate in candidates)[:2]",
        "2 -> 3",
    ): "the third one isn't looked at",
    (
        "src/segops/data/grouping.py",
        "agreement_N[i] = -1  # a tile is not its own neighbour",
        "1 -> 2",
    ): "below every agreement, too",
    (
        "src/segops/comparison/gate.py",
        "rise, images = round(mine - theirs, 9), int((~in_truth(tables[0], own)).sum())",
        "9 -> 10",
    ): "both shares have nine decimals",
    (
        "src/segops/evaluation/ranks.py",
        "if self._waits > LIMIT:",
        "self._waits > LIMIT -> self._waits >= LIMIT",
    ): "memory, and which neighbours share a bin where many do",
    (
        "pipelines/api.py",
        "config.retries = Retry(None, connect=0, read=0, status=0, other=0, redirect=5)",
        "5 -> 6",
    ): "no server sends a client on five times",
    (
        "src/segops/data/assignment.py",
        "_MAX_HASHES = 2_000_000  # of a seed search, about 2 s",
        "2000000 -> 2000001",
    ): "3 and 666,667 alone divide 2,000,001, and with as many groups other limits hold",
    ("src/segops/data/masks.py", "_STRAY = -1", "1 -> 2"): "no class is below 0",
    (
        "src/segops/data/masks.py",
        "self._index = np.full(self._largest + 1, _STRAY, dtype=np.int16)",
        "1 -> 2",
    ): "no 16-bit value reads one entry more",
    (
        "src/segops/comparison/verdict.py",
        'return "the lead is real" if difference.difference.side > 0 else f"{difference.b} is better here"',
        "difference.difference.side > 0 -> difference.difference.side >= 0",
    ): "a real difference has a side",
    (
        "src/segops/evaluation/intervals.py",
        "effect = _plain((ranks * np.sign(means)).sum() / ranks.sum())",
        "ranks * np.sign(means) -> ranks / np.sign(means)",
    ): "times or by 1 or -1",
    (
        "src/segops/comparison/gate.py",
        "if found.low is None or found.groups < params.min_groups:",
        "found.low -> found.mean",
    ): "one group, which has no low end, is below promote.min_groups, at least 2",
    (
        "src/segops/inference/windows.py",
        "inside_nL = (position_nL > 0) & (position_nL < length)",
        "position_nL > 0 -> position_nL >= 0",
    ): "positions end in a half",
    (
        "src/segops/inference/windows.py",
        "inside_nL = (position_nL > 0) & (position_nL < length)",
        "position_nL < length -> position_nL <= length",
    ): "positions end in a half",
    (
        "src/segops/training/schedules.py",
        "rise = warmup + 1e-9 if warmup * steps == 1 else warmup",
        "1e-09 -> 2e-09",
    ): "any small number",
    (
        "src/segops/tracking/ledger_snapshot.py",
        "(decision for decision in self.decisions if decision.moves), key=lambda decision: decision.number or 0",
        "0 -> 1",
    ): "a decision that moves the champion has a number",
    (
        "src/segops/tuning/search.py",
        "_LOOK_AGAIN_S = 2.0  # for a dead worker's trial, while others run",
        "2.0 -> 4.0",
    ): "time alone",
    (
        "src/segops/tuning/study.py",
        "running = load(storage, search).get_trials(deepcopy=False, states=(TrialState.RUNNING,))",
        "False -> True",
    ): "memory and time alone",
    (
        "src/segops/tuning/study.py",
        "trials = load(storage, search).get_trials(deepcopy=False)",
        "False -> True",
    ): "memory and time alone",
    ("pipelines/cluster.py", "_PAGE = 100", "100 -> 101"): "lists are read to their end, in pages of whatever size",
    (
        "src/segops/training/checkpoint.py",
        "knobs = json.dumps("
        '[candidate, params.model_dump(mode="json", exclude={"inference"}), setting], sort_keys=True)',
        "True -> False",
    ): "fields stand in the order of their definition anyway",
}
