"""The tool that changes code to see whether tests can fail."""

from __future__ import annotations

from pathlib import Path

from tools.mutations import mutants_of
from tools.tested import DECIDES, EQUIVALENT

CODE = '''"""Not 1 of these < 2."""
LIMIT: float = 0.5


def judge(scores: list[float], least: int = 3) -> bool:
    assert least > 0
    if len(scores) < least and not scores:
        raise ValueError(f"{least + 1} scores")
    return any(one - 1 > LIMIT for one in scores)
'''


def test_each_change_is_one_place_and_a_program() -> None:
    mutants = mutants_of("a.py", CODE)
    assert [(one.line, one.change) for one in mutants] == [
        (2, "0.5 -> 1.0"),
        (5, "3 -> 4"),
        (7, "len(scores) < least and (not scores) -> len(scores) < least or not scores"),
        (7, "len(scores) < least -> len(scores) <= least"),
        (7, "not scores -> scores"),
        (8, "raise ValueError(f'{least + 1} scores') -> pass"),
        (9, "any((one - 1 > LIMIT for one in scores)) -> all((one - 1 > LIMIT for one in scores))"),
        (9, "one - 1 > LIMIT -> one - 1 >= LIMIT"),
        (9, "one - 1 -> one + 1"),
        (9, "1 -> 2"),
    ]
    for one in mutants:
        compile(one.text, "a.py", "exec")
        changed = [
            line for line, before in zip(one.text.splitlines(), CODE.splitlines(), strict=True) if line != before
        ]
        assert len(changed) == 1
    assert mutants[-2].text.endswith("return any((one + 1) > LIMIT for one in scores)\n")


def test_the_modules_that_decide_and_their_tests_are_there(root: Path) -> None:
    for module, tests in DECIDES.items():
        assert (root / module).is_file()
        files = [one for one in tests if one.startswith("tests/")]
        assert files
        assert all((root / path).is_file() for path in files)
        assert mutants_of(module, (root / module).read_text())


def test_what_no_test_can_tell_apart_is_in_the_code(root: Path) -> None:
    every = {mutant.key for path in DECIDES for mutant in mutants_of(path, (root / path).read_text())}
    assert set(EQUIVALENT) - every == set()
