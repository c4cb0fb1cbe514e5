"""A component's tests stand beside it; what every test gets is in tests/."""

from __future__ import annotations

from tests.conftest import _denormals, _own_stores  # noqa: F401
