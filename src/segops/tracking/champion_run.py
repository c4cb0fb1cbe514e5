"""What MLflow knows of the run behind the champion, for a page that says what changed since."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from segops.tracking import registry

if TYPE_CHECKING:
    from mlflow import MlflowClient


class ChampionRun(NamedTuple):
    """Holds the champion's version, and its run's tags, params and test Dice; empty where the run was deleted."""

    version: int
    tags: dict[str, str]
    params: dict[str, str]
    test_dice: float | None


def champion_run(client: MlflowClient, name: str) -> ChampionRun | None:
    """Read the run of the version that holds the alias `champion`; None where no version does."""
    from mlflow.exceptions import MlflowException

    number = registry.alias(client, name, registry.CHAMPION)
    if number is None:
        return None
    version = client.get_model_version(name, str(number))
    try:
        data = client.get_run(version.run_id).data
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return ChampionRun(number, dict(version.tags), {}, None)
    return ChampionRun(number, {**data.tags, **version.tags}, dict(data.params), data.metrics.get("test/dice"))
