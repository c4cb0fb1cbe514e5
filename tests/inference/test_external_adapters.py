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
SKIMAGE = ROOT / "docs/how-to/external/skimage_masks.py"


@pytest.mark.parametrize("adapter", [path for path in ADAPTERS if path != SKIMAGE], ids=lambda path: path.stem)
def test_an_adapter_without_its_weights_ends_with_what_to_do(adapter: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(adapter), str(tmp_path / "weights")]
    params = ExternalParams.model_validate(
        {"architecture": "external", "command": command, "version": "any", "licence": "any"}
    )
    with pytest.raises(UserError, match=r"exit code 1: .*weights: no such file; (download|unpack) .* name") as error:
        Command(params).mask(np.zeros((8, 8), np.uint16))
    assert "\n" not in str(error.value)


def test_there_is_an_adapter_of_each_package_that_the_docs_name() -> None:
    assert [path.stem for path in ADAPTERS] == ["cellpose_masks", "instanseg_masks", "skimage_masks", "stardist_masks"]


@pytest.mark.parametrize("bright", [True, False])
def test_scikit_images_pipeline_parts_discs_that_touch_and_needs_no_weights(bright: bool) -> None:
    y, x = np.ogrid[:48, :64]
    discs_HW = ((y - 24) ** 2 + (x - 20) ** 2 <= 100) | ((y - 24) ** 2 + (x - 39) ** 2 <= 100)
    params = {"architecture": "external", "command": [sys.executable, str(SKIMAGE)], "version": "1", "licence": "BSD"}
    image_HW = np.where(discs_HW == bright, 50_000, 5_000).astype(np.uint16)
    objects_HW = Command(ExternalParams.model_validate(params)).mask(image_HW)
    assert (objects_HW > 0)[discs_HW].mean() > 0.98
    assert len(np.unique(objects_HW)) == 3
    assert objects_HW[24, 12] != objects_HW[24, 47]
