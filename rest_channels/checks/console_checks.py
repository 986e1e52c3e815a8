"""The console: whether it is open to strangers."""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Warning
from django.test import RequestFactory
from django.urls import NoReverseMatch, reverse
from rest_framework.request import Request

from rest_channels.console.access import may_open

logger = logging.getLogger("rest_channels")


def check_console(**kwargs: Any) -> list[CheckMessage]:
    """Return W019."""
    if settings.DEBUG or not getattr(settings, "ROOT_URLCONF", None) or not _lets_strangers_in():
        return []
    return [
        Warning(
            "The console is open to users who are not signed in, and DEBUG is off.",
            hint="Set REST_CHANNELS['CONSOLE_ACCESS'] to a stricter rule, for example "
            "'rest_framework.permissions.IsAdminUser'.",
            id="rest_channels.W019",
        )
    ]


def _lets_strangers_in() -> bool:
    try:
        path = reverse("rest_channels_console:page")
    except NoReverseMatch:
        return False
    try:
        # Without authentication classes, the user is DRF's UNAUTHENTICATED_USER.
        return may_open(Request(RequestFactory().get(path)))
    except Exception:
        # A rule that fails for strangers does not let them in either.
        logger.debug("CONSOLE_ACCESS failed for a user who is not signed in.", exc_info=True)
        return False
