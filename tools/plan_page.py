"""Write the table in docs/reference/plan.md from the rules of a plan: `python -m tools.plan_page [--check]`."""

from __future__ import annotations

import textwrap
from pathlib import Path

from segops.planning.decisions import Rule
from segops.planning.rules import RULES
from segops.planning.slice_rules import VOLUME_RULES
from tools.generated import between, write_or_check

PAGE = Path("docs/reference/plan.md")
BEGIN, END = "<!-- rules: begin (make docs) -->", "<!-- rules: end -->"


def table() -> str:
    """The markdown tables: of pictures' rules, then of those that volumes have instead."""
    of_volumes = [rule for rule in VOLUME_RULES if rule not in RULES]
    kept = ", ".join(f"`{rule.__name__}`" for rule in VOLUME_RULES if rule in RULES)
    volumes = textwrap.fill(f"Of volumes the rules are {kept}, and:", 120, break_on_hyphens=False)
    return f"{rows_of(RULES)}\n\n{volumes}\n\n{rows_of(of_volumes)}"


def rows_of(rules: list[Rule]) -> str:
    """A markdown table: a row a rule, in the order in which they are applied."""
    rows = ["| rule | params | what they become |", "|---|---|---|"]
    for rule in rules:
        params, _, text = " ".join((rule.__doc__ or "").split()).partition(": ")
        rows.append(f"| {rule.__name__} | {params} | {text} |")
    return "\n".join(rows)


def main() -> None:
    """Write the page, or check it."""
    write_or_check(PAGE, lambda text: between(text, BEGIN, END, table()), "isn't what the rules say")


if __name__ == "__main__":
    main()
