"""The one Jinja environment, of HTML pages and of Markdown cards and notes.

A page is one self-contained file that reads offline. Its template extends the frame:

    {% extends "page.html.j2" %}{% block title %}...{% endblock %}{% block body %}...{% endblock %}
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from segops.progress import counted
from segops.reports import numbers, palette
from segops.reports.markdown import code, plain

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **context: Any) -> str:
    """Fill a template of `templates/`; a name that it lacks is an error.

    In a `.html.j2` every value is escaped unless it is Markup, in a `.md.j2` every value goes through `plain` unless it
    is Markdown. Filters: those of `numbers.py`, `pixels` (two decimals) and `code`. `palette` holds colours by name.
    """
    return _environment().get_template(template).render(**context)


def _key(colour: str, *, first: bool = False) -> str:
    """Write the box of a colour, on one line with the word that follows: U+2060 joins them.

    Args:
        first: whether it begins its line, so that it isn't set off.
    """
    from markupsafe import Markup

    box = Markup('<span class="{}" style="background: {}"></span>\N{WORD JOINER}')
    return box.format("key first" if first else "key", colour)


def _environment() -> Environment:
    """Make the environment that templates are filled in, with our filters and colours."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_eval_context, select_autoescape
    from jinja2.nodes import EvalContext
    from markupsafe import Markup

    @pass_eval_context
    def plain_in_markdown(context: EvalContext, value: Any) -> Any:
        return value if context.autoescape else plain(value)

    @pass_eval_context
    def interval(context: EvalContext, value: Any, *form: Any, **named: Any) -> str:
        words = numbers.interval(value, *form, **named)
        mean, _, between = words.partition(" (")
        kept = Markup(' <span class="range">({}</span>').format(between) if between else ""
        return Markup(mean) + kept if context.autoescape else words  # noqa: S704 - digits

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=select_autoescape(["html.j2"]),
        finalize=plain_in_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"score": numbers.score, "interval": interval, "p": numbers.p_value, "code": code}
    environment.filters |= {"decimals": numbers.number, "signed": numbers.signed}
    environment.filters["counted"] = counted
    environment.filters["pixels"] = lambda px: numbers.number(px, 2)
    environment.globals |= {"palette": palette.KEYS, "palette_css": palette.css, "key": _key}
    return environment
