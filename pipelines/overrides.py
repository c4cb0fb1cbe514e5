"""Changes single params on the command line, by their dotted path."""

from __future__ import annotations

import yaml
from pydantic import ValidationError

from segops.errors import UserError
from segops.params.dotted import changed
from segops.params.explain import explain
from segops.params.project import Params


def override(params: Params, changes: list[str]) -> Params:
    """Return params with `a.b=value` changes, values in YAML.

    Raises: UserError naming the change: not of that form, an unknown path, a value that the param doesn't take.
    """
    values = {}
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals or not path:
            raise UserError(f"--set {change}: write it as section.param=value")
        values[path] = yaml.safe_load(text)
    try:
        return changed(params, values)
    except ValidationError as error:
        raise UserError(f"--set: {explain(error, Params)}") from None
    except UserError as error:
        raise UserError(f"--set {error}") from None
