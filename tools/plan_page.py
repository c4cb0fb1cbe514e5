"""Write the table in docs/reference/plan.md from the rules of a plan: `python -m tools.plan_page [--check]`."""

from __future__ import annotations

from pathlib import Path

from segops.planning.rules import RULES
from tools.generated import between, write_or_check

PAGE = Path("docs/reference/plan.md")
BEGIN, END = "<!-- rules: begin (make docs) -->", "<!-- rules: end -->"


def table() -> str:
    """The markdown table: a row a rule, in the order in which they are applied."""
    rows = ["| rule | params | what they become |", "|---|---|---|"]
    for rule in RULES:
        params, _, text = " ".join((rule.__doc__ or "").split()).partition(": ")
        rows.append(f"| {rule.__name__} | {params} | {text} |")
    return "\n".join(rows)


def main() -> None:
    """Write the page, or check it."""
    write_or_check(PAGE, lambda text: between(text, BEGIN, END, table()), "isn't what the rules say")


if __name__ == "__main__":
    main()
