"""The questions that a person has before a promotion, each answered in a line on the comparison page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from segops.comparison.verdict import SUBSETS, verdict
from segops.contracts.comparison import Comparison
from segops.progress import counted

if TYPE_CHECKING:
    from segops.comparison.entrants import Entrant
    from segops.tracking.champion_run import ChampionRun

_NAMED = 5  # params or subgroups that an answer names
_BAD = 0.5  # Dice of an image below which it counts as failed


class Answer(NamedTuple):
    """Holds a question, its answer, a command to type, and the part of the page that says more; "" for none."""

    question: str
    text: str
    command: str = ""
    link: str = ""


def answers(comparison: Comparison, ranked: Sequence[Entrant], champion: ChampionRun | None) -> list[Answer]:
    """Answer each question about the candidate to take: the challenger, or the leader where none is registered.

    Args:
        ranked: the best first.
        champion: None: nothing was promoted yet.
    """
    taken = next((entrant for entrant in ranked if entrant.name == comparison.challenger), ranked[0])
    return [
        *_which(comparison, ranked),
        *_worth(comparison, ranked),
        Answer("Where does it fail?", f"{taken.name}: {_failures(comparison, taken)}.", link="images"),
        Answer("What changed since the champion?", _changes(taken, champion), link="compared" if champion else ""),
        Answer("What data?", _data(taken), link="data"),
        Answer("What code?", _code(taken), link="compared"),
        *_what_to_type(taken, champion),
    ]


def _which(comparison: Comparison, ranked: Sequence[Entrant]) -> Iterator[Answer]:
    """Answer which candidate is better, by how much, and whether that is real."""
    leader = ranked[0]
    dice = leader.evaluation.val.dice.words()
    if len(ranked) == 1:
        yield Answer("Which is better?", f"{leader.name} is the only candidate: validation Dice {dice}.")
        return
    yield Answer("Which is better?", f"{leader.name}: validation Dice {dice}, the highest of {len(ranked)} candidates.")
    other = ranked[1].name
    pairs = {pair.subset: pair for pair in comparison.differences if (pair.a, pair.b) == (leader.name, other)}
    by = "; ".join(f"{SUBSETS[name]} {pair.difference.words(4, signed=True)}" for name, pair in pairs.items())
    yield Answer("By how much?", f"Dice over that of {other}: {by}.", link="real")
    said = "; ".join(f"{SUBSETS[name]}: {verdict(pair, comparison.confidence)}" for name, pair in pairs.items())
    yield Answer("Is it real?", f"{said[0].upper()}{said[1:]}.", link="real")


def _worth(comparison: Comparison, ranked: Sequence[Entrant]) -> Iterator[Answer]:
    """Answer whether training is worth it, where a candidate trains nothing."""
    untrained = [entrant.name for entrant in ranked if not entrant.trained.epochs]  # external programs too
    trained = [entrant.name for entrant in ranked if entrant.trained.epochs]
    if not untrained or not trained:
        return
    ours, theirs = trained[0], untrained[0]
    first, second = sorted((ours, theirs), key=[entrant.name for entrant in ranked].index)
    lead = next(pair for pair in comparison.differences if (pair.a, pair.b, pair.subset) == (first, second, "val"))
    by = lead.difference.words(4, signed=True)
    if first == theirs:
        said = f"No: {theirs}, which isn't trained here, ranks before {ours}: {by}."
    else:
        worth = "Yes" if lead.real else "That isn't shown"
        said = f"{worth}: {ours} over {theirs}, which isn't trained here: {by}; {verdict(lead, comparison.confidence)}."
    yield Answer("Is training worth it?", said, link="real")


def _failures(comparison: Comparison, taken: Entrant) -> str:
    """Name the worst image, how many are bad, the worst modality, and the subgroups in which others are better."""
    table = taken.judged.per_image
    rows = table[table["subset"].isin(("val", "test"))].dropna(subset="dice")
    worst = rows.sort_values(["dice", "image_id"]).iloc[0]
    parts = [f"lowest on {worst['image_id']} (group {worst['group_id']}, Dice {worst['dice']:.3f})"]
    parts.append(f"{(rows['dice'] < _BAD).sum()} of {counted(len(rows), 'image')} below {_BAD:g}")
    by_modality = rows.groupby("modality")["dice"].mean()
    if len(by_modality) > 1:
        parts.append(f"weakest modality {by_modality.idxmin()} (mean {by_modality.min():.3f})")
    fallen = [part for part in comparison.subgroups if part.a == taken.name and part.regressed]
    if fallen:
        names = dict.fromkeys(f"{part.kind} {part.name} ({part.b} is better)" for part in fallen)
        parts.append(f"falls behind in {_some(list(names))}")
    return "; ".join(parts)


def _changes(taken: Entrant, champion: ChampionRun | None) -> str:
    """Say what differs from the champion: candidate, params, data, split, code, and test Dice on the same images."""
    from segops.params.candidate import CandidateParams
    from segops.tracking.shown_params import shown_params

    if champion is None:
        return "Nothing was promoted yet."
    trained, was = taken.trained, champion.tags
    if was.get("weights_sha256") == trained.weights_sha256:
        return f"Nothing: the champion, version {champion.version}, has these weights."
    parts = []
    if was.get("candidate") != trained.candidate:
        parts.append(f"candidate {was.get('candidate', 'unknown')} \N{RIGHTWARDS ARROW} {trained.candidate}")
    shown = shown_params(CandidateParams.model_validate(trained.params))
    if champion.params and (different := _different(champion.params, shown)):
        parts.append(f"params {_some(different)}")
    hashes = {"manifest_sha256": trained.manifest_sha256, "split_sha256": trained.assignment_sha256}
    named = {"manifest_sha256": "other data", "split_sha256": "another split"}
    parts += [named[tag] for tag, sha256 in hashes.items() if was.get(tag, sha256) != sha256]
    commit, old = taken.registration.git_commit, was.get("git_commit")
    if commit and old and commit != old:
        parts.append(f"code {old[:10]} \N{RIGHTWARDS ARROW} {commit[:10]}")
    if was.get("test_sha256") != trained.test_sha256:
        parts.append("another test set, so that the two can't be compared")
    elif champion.test_dice is not None:
        parts.append(f"test Dice {champion.test_dice:.4f} \N{RIGHTWARDS ARROW} {taken.evaluation.test.dice.mean:.4f}")
    return f"Since version {champion.version}: {'; '.join(parts) or 'another training of the same'}."


def _different(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Write the params that two candidates don't share; one that isn't shown has its default."""
    pairs = {path: (before.get(path, "default"), now.get(path, "default")) for path in sorted({*before, *now})}
    return [
        f"{path} {_short(old)} \N{RIGHTWARDS ARROW} {_short(new)}" for path, (old, new) in pairs.items() if old != new
    ]


def _short(value: str) -> str:
    """Write a number with four significant digits at most; other values as they are."""
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return value


def _data(taken: Entrant) -> str:
    """Say from where the images are and how many each subset has."""
    trained, scores = taken.trained, taken.evaluation
    counts = {
        "training": (trained.train_images, trained.train_groups),
        "validation": (scores.val.images, scores.val.groups),
        "test": (scores.test.images, scores.test.groups),
    }
    images = ", ".join(f"{name} {images} in {counted(groups, 'group')}" for name, (images, groups) in counts.items())
    licence = trained.licence or "no licence stated"
    return f"{trained.dataset} from {trained.source} ({licence}), sha256 {trained.source_sha256[:12]}: {images}."


def _code(taken: Entrant) -> str:
    """Name the commit that the candidate was registered at."""
    commit, dirty = taken.registration.git_commit, taken.registration.git_dirty
    if not commit:
        return "The commit isn't known: there was no git repository."
    differed = {True: ", and files differed from it", False: "", None: ", whether files differed from it isn't known"}
    return f"Commit {commit}{differed[dirty]}."


def _what_to_type(taken: Entrant, champion: ChampionRun | None) -> Iterator[Answer]:
    """Say how to promote and how to go back."""
    question, version = "How do I promote it?", taken.registration.version
    if version is None:
        yield Answer(question, f"Not at all: {taken.registration.reason}.")
    elif champion is not None and champion.version == version:
        yield Answer(question, f"Version {version} is the champion already.")
    else:
        against = f"version {champion.version}" if champion else "the floors"
        text = f"This judges version {version} against {against} on test, then asks."
        yield Answer(question, text, command=f"segops promote {version}")
    text = "This restores the champion before the present; the ledger keeps both (segops history)."
    yield Answer("How do I go back?", text, command="segops rollback")


def _some(names: Sequence[str]) -> str:
    """Join the first names, and say how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
