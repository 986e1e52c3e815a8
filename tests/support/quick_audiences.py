"""Take every audience for a quick one, however long it takes."""

from __future__ import annotations

import pytest

from rest_channels.live.delivery import arrivals, paces


def take_all_for_quick(patch: pytest.MonkeyPatch) -> None:
    """Let no audience move to another track, and no owner be a heavy one, because of time."""
    patch.setattr(paces, "SLOW_SECONDS", float("inf"))
    patch.setattr(paces, "_AT_ONCE_SECONDS", float("inf"))
    patch.setattr(arrivals, "_CREDIT_SECONDS", float("inf"))
