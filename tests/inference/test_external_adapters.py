"""The adapters of other packages that the docs give: without weights they refuse in a line, and before any import."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from segops.errors import UserError
from segops.inference.external import Command
from segops.params.untrained import ExternalParams
from tests.support.checkout import ROOT

ADAPTERS = sorted((ROOT / "docs/how-to/external").glob("*.py"))


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda path: path.stem)
def test_an_adapter_without_its_weights_ends_with_what_to_do(adapter: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(adapter), str(tmp_path / "weights")]
    params = ExternalParams.model_validate(
        {"architecture": "external", "command": command, "version": "any", "licence": "any"}
    )
    with pytest.raises(UserError, match=r"exit code 1: .*weights: no such file; (download|unpack) .* name") as error:
        Command(params).mask(np.zeros((8, 8), np.uint16))
    assert "\n" not in str(error.value)


def test_there_is_an_adapter_of_each_package_that_the_docs_name() -> None:
    assert [path.stem for path in ADAPTERS] == ["cellpose_masks", "instanseg_masks", "stardist_masks"]
