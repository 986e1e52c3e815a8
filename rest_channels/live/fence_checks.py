"""
Checks of a project that tells its HTTP clients of fences.

    W017  FenceMiddleware is within middleware that writes or caches
    W018  pages of other origins cannot read the header
"""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.core.checks import CheckMessage, Warning
from django.utils.module_loading import import_string

from rest_channels.live.fence_tokens import HEADER
from rest_channels.middleware import FenceMiddleware

# Sessions are saved after the view; a cached response has the token of another request.
_WITHIN: Final = (
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.cache.UpdateCacheMiddleware",
)


def check_fences(**kwargs: Any) -> list[CheckMessage]:
    """Return W017 and W018."""
    names = list(getattr(settings, "MIDDLEWARE", None) or ())
    found = next((i for i, name in enumerate(names) if _is_a(name, FenceMiddleware)), None)
    if found is None:
        return []
    return [*_check_place(names[found], names[:found]), *_check_cors()]


def _check_place(own: str, before: list[str]) -> list[CheckMessage]:
    kinds = tuple(map(import_string, _WITHIN))
    wrong = [name for name in before if _is_a(name, kinds)]
    if not wrong:
        return []
    return [
        Warning(
            f"{own} comes after {', '.join(wrong)} in MIDDLEWARE: it does not see what they write, "
            "and a cache may keep its tokens.",
            hint=f"Move {own} to the beginning of MIDDLEWARE.",
            id="rest_channels.W017",
        )
    ]


def _check_cors() -> list[CheckMessage]:
    exposed = getattr(settings, "CORS_EXPOSE_HEADERS", ())
    if "corsheaders" not in settings.INSTALLED_APPS or _is_exposed(exposed):
        return []
    return [
        Warning(
            f"Pages of other origins cannot read the header {HEADER}.",
            hint=f"Add {HEADER!r} to CORS_EXPOSE_HEADERS.",
            id="rest_channels.W018",
        )
    ]


def _is_exposed(exposed: Any) -> bool:
    return any(str(name).lower() in (HEADER.lower(), "*") for name in exposed)


def _is_a(name: str, kind: Any) -> bool:
    """Return whether `name` is the path of a subclass of `kind`."""
    try:
        found = import_string(name)
    except ImportError:
        # Django reports it as it loads the middleware.
        return False
    return isinstance(found, type) and issubclass(found, kind)
