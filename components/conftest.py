"""Shares the fixtures of tests/ with the components' tests, each of which is beside its component."""

from __future__ import annotations

from tests.conftest import _denormals, _own_stores  # noqa: F401
