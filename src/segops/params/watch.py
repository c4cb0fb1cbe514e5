"""Defines what watches the alias of the champion."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from segops.params.section import Section


class WatchParams(Section):
    """`segops watch`: does the alias say what the ledger says?"""

    action: Literal["report", "revert"] = Field(
        "report", description="what follows when no decision moved the alias: a line, or the alias goes back too"
    )
    every_s: float = Field(60.0, ge=1, le=86_400, description="seconds between two looks; a webhook comes at once")
    weights_every_s: float = Field(3600.0, ge=1, description="seconds between two readings of the champion's weights")
    bind: str = Field("127.0.0.1", min_length=1, description="address where webhooks and `/health` are answered")
    port: int = Field(8787, ge=1, le=65_535, description="its port; used where SEGOPS_WEBHOOK_SECRET is set")
