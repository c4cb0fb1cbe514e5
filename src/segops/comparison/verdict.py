"""What a comparison says, in words: one rule for when a difference is real, one sentence for what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from segops.contracts.scores import PairedDifference, Standing, SubgroupDifference

if TYPE_CHECKING:
    from segops.comparison.paired import Half

SUBSETS: dict[Half, str] = {"val": "validation", "test": "test"}
_NAMED = 3  # candidates or subgroups that a sentence names


def verdict(difference: PairedDifference, confidence: float) -> str:
    """Say what a pair's difference shows: that it is real and for whom, or why it could be chance."""
    if not difference.real:
        return f"could be chance: {why_chance(difference, confidence)}"
    return "the lead is real" if difference.difference.side > 0 else f"{difference.b} is better here"


def why_chance(difference: PairedDifference, confidence: float) -> str:
    """Say which part of the rule `PairedDifference.real` a difference that isn't real misses."""
    interval = difference.difference
    if interval.groups == 1:
        return f"{SUBSETS[difference.subset]} has 1 group, which says nothing of others"
    if interval.side == 0:
        return "the interval holds 0"
    if difference.adjusted_p is None:
        return difference.reason or "there is no p"
    level = 1 - confidence
    if difference.adjusted_p >= level:
        return f"the signed-rank test's adjusted p of {difference.adjusted_p:.2g} isn't below {level:.3g}"
    return "the mean and the ranks of the groups favour different sides"


def decision(
    standings: Sequence[Standing],
    differences: Sequence[PairedDifference],
    subgroups: Sequence[SubgroupDifference],
    confidence: float,
) -> str:
    """Write one sentence on what to do: which candidate to take, which can't be told apart, or that none will do.

    Only registered candidates, which reach the floors on validation, can be taken, and that of them which ranks first
    is: it is the challenger. Its lead is called real where it is so over each other registered candidate, and over each
    that isn't trained here, on validation and test doesn't really favour the other.

    Args:
        standings: the best first.
    """
    registered = [standing for standing in standings if standing.registered]
    if not registered:
        reasons = "; ".join(f"{standing.candidate}: {standing.reason}" for standing in standings[:_NAMED])
        more = f"; and {len(standings) - _NAMED} more" if len(standings) > _NAMED else ""
        return f"Take none: nobody reaches the floors ({reasons}{more})."
    best = registered[0]
    name = f"{best.candidate} (version {best.version})"
    outside = [standing for standing in standings if not standing.registered and not standing.parameters]
    if outside and outside[0].rank < best.rank:
        return _not_worth_it(outside[0], best.candidate, name, differences, confidence)
    others = sorted([*registered[1:], *outside], key=lambda standing: standing.rank)
    if not best.parameters and len(standings) > 1:
        return f"Take {name}: it trains nothing and ranks first, so that training isn't worth it on these images."
    if not others:
        alone = "the only candidate" if len(standings) == 1 else "the only candidate that reaches the floors"
        return f"Take {name}: it is {alone}."
    pairs = {(pair.a, pair.b, pair.subset): pair for pair in differences}
    unclear: list[tuple[Standing, str]] = []
    for other in others:
        val, test = (pairs[best.candidate, other.candidate, subset] for subset in ("val", "test"))
        if not val.real:
            shown = f"{val.difference.words(4, signed=True)}, {val.groups} groups"
            unclear.append((other, f"{why_chance(val, confidence)} ({shown})"))
        elif test.real and test.difference.side != val.difference.side:
            unclear.append((other, f"validation favours {best.candidate} and test favours {other.candidate}"))
    if unclear:
        return _cannot_tell(best, unclear)
    lead = pairs[best.candidate, others[0].candidate, "val"].difference
    over = others[0].candidate if len(others) == 1 else f"{others[0].candidate} and all others"
    return (
        f"Take {name}: its lead over {over} is real ({lead.words(4, signed=True)}){_except(best.candidate, subgroups)}."
    )


def _not_worth_it(
    first: Standing, best: str, name: str, differences: Sequence[PairedDifference], confidence: float
) -> str:
    """Write that a program which isn't trained here ranks before all that can be promoted."""
    pair = next(pair for pair in differences if (pair.a, pair.b, pair.subset) == (first.candidate, best, "val"))
    lead = f"validation Dice {pair.difference.words(4, signed=True)}"
    chance = "" if pair.real else f", which could be chance: {why_chance(pair, confidence)}"
    return (
        f"Training isn't worth it on these images: {first.candidate}, which isn't trained here, ranks before {best} "
        f"({lead}{chance}). It can't be promoted; of what can, take {name}."
    )


def _cannot_tell(best: Standing, unclear: Sequence[tuple[Standing, str]]) -> str:
    """Write that the best can't be told from the candidates of `unclear`, nearest first, and why."""
    names = [other.candidate for other, _ in unclear]
    shown = " or ".join(names[:_NAMED]) + (f" or {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    known = [(other.gflops, other.candidate) for other, _ in unclear if other.gflops is not None]
    gflops, cheapest = min(known, default=(math.inf, ""))
    own = math.inf if best.gflops is None else best.gflops
    cheaper = f"; {cheapest} costs less ({gflops:.3g} GFLOPs instead of {own:.3g})"
    return (
        f"Can't tell {best.candidate} from {shown}, because {unclear[0][1]}: take {best.candidate} "
        f"(version {best.version}), which ranks first, or score more groups"
        f"{cheaper if gflops < own < math.inf else ''}."
    )


def _except(candidate: str, subgroups: Sequence[SubgroupDifference]) -> str:
    """Name the subgroups in which the candidate's Dice is lower by more than the margin; empty without any."""
    fallen = [subgroup for subgroup in subgroups if subgroup.a == candidate and subgroup.regressed]
    fallen.sort(key=lambda subgroup: subgroup.difference.mean)
    if not fallen:
        return ""
    named = ", ".join(
        f"{part.kind} {part.name} ({SUBSETS[part.subset]}, {part.difference.mean:+.4f} against {part.b})"
        for part in fallen[:_NAMED]
    )
    more = f" and {len(fallen) - _NAMED} more" if len(fallen) > _NAMED else ""
    return f", but not everywhere: look first at {named}{more}"
