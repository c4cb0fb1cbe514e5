"""A champion whose version somebody deleted: what was there before is found, and said."""

from __future__ import annotations

from pathlib import Path

import pytest

from segops.commands.promote import promote, rollback
from segops.errors import UserError
from segops.params.promote import PromoteParams
from segops.params.runtime import RuntimeParams
from segops.tracking import registry, store
from tests.support.judged_candidates import add_version
from tests.support.mlflow_server import own_names

pytest_plugins = ["tests.support.mlflow_stores"]

PARAMS = PromoteParams(min_groups=2, margin=1.0, subgroup_margin=1.0, min_subgroup_images=2)
RUNTIME = RuntimeParams(threads=1, device="cpu")


def test_a_deleted_champion_is_passed_over_and_named(
    file_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking, client = own_names(), store.client()
    one, two, three = (add_version(tmp_path, tracking, name, test=[0.9] * 4) for name in "abc")
    for version in (one, two, three):
        promote(str(version), PARAMS, RUNTIME, tracking, confirm=lambda _: True)
    client.delete_model_version(tracking.model_name, str(three))
    made = rollback(tracking, confirm=lambda _: True)
    assert (made.from_version, made.to_version) == (None, two)
    said = capsys.readouterr().err
    assert f"version {three} was the champion and is deleted: the champion before it is version {two}" in said
    assert "it was removed by hand, or its version deleted" in said

    client.delete_model_version(tracking.model_name, str(two))
    made = promote(str(one), PARAMS, RUNTIME, tracking, confirm=lambda _: True)
    assert made.to_version == registry.alias(client, tracking.model_name, registry.CHAMPION) == one
    assert f"version {two}, the ledger's champion, is deleted: the gate compares with no champion" in (
        capsys.readouterr().err
    )


def test_where_every_former_champion_is_deleted_that_is_said_and_promote_is_the_way(
    file_store: Path, tmp_path: Path
) -> None:
    tracking, client = own_names(), store.client()
    one, two = (add_version(tmp_path, tracking, name, test=[0.9] * 4) for name in "ab")
    promote(str(one), PARAMS, RUNTIME, tracking, confirm=lambda _: True)
    client.delete_model_version(tracking.model_name, str(one))
    with pytest.raises(UserError, match=f"version {one} was the champion and is deleted; `segops promote` makes"):
        rollback(tracking, confirm=lambda _: True)
    promote(str(two), PARAMS, RUNTIME, tracking, confirm=lambda _: True)
    with pytest.raises(UserError, match=f"no champion before the present one to go back to; version {one} was the"):
        rollback(tracking, confirm=lambda _: True)
