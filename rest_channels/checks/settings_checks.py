"""The settings in REST_CHANNELS: their names and values."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error

from rest_channels.checks.setting_values import invalid_reason
from rest_channels.settings import DEFAULTS


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Return E001 and E002."""
    given = getattr(settings, "REST_CHANNELS", {})
    if not isinstance(given, dict):
        hint = "Write REST_CHANNELS = {'WORKER_THREADS': 8}, for example, or remove it."
        return [Error("REST_CHANNELS must be a dictionary.", hint=hint, id="rest_channels.E001")]
    messages: list[CheckMessage] = []
    for name, value in given.items():
        if name not in DEFAULTS:
            known = ", ".join(sorted(DEFAULTS))
            messages.append(
                Error(
                    f"REST_CHANNELS has no setting {name!r}.",
                    hint=f"There are: {known}.",
                    id="rest_channels.E001",
                )
            )
        elif (reason := invalid_reason(name, value)) is not None:
            messages.append(
                Error(
                    f"REST_CHANNELS[{name!r}] is {value!r}: {reason}.",
                    hint=f"The default is {DEFAULTS[name]!r}.",
                    id="rest_channels.E002",
                )
            )
    return messages
