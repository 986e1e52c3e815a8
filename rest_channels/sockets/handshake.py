"""
The handshake: which pages may open a socket, and whether the policy of its streams admits it.

A browser sends cookies with a handshake from any page; the Origin header names the page. One exact
check of it replaces the CSRF token, which a message cannot carry.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.urls.resolvers import RegexPattern, RoutePattern
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated, PermissionDenied

from rest_channels.protocol import CloseCode, Frame
from rest_channels.settings import socket_settings
from rest_channels.sockets.endpoints import Endpoint
from rest_channels.sockets.request import Handshake, MessageRequest
from rest_channels.sockets.streams import Stream

logger = logging.getLogger("rest_channels")


_SECONDS_BETWEEN_WARNINGS: Final = 60

# The number of origins logged in that time, so that invented ones fill neither log nor memory.
_MAX_WARNED: Final = 100

# Longer than any host's name.
_MAX_CHARS: Final = 300

_warned: dict[tuple[str, str], float] = {}


def is_trusted_origin(handshake: HttpRequest) -> bool:
    """
    Return whether cookies sent with this handshake may count.

    They may without an Origin header (every browser sends one with a handshake), for the site's own
    origin, for `CSRF_TRUSTED_ORIGINS` and for `REST_CHANNELS["ALLOWED_ORIGINS"]`. The first two are
    Django's own rule, with the Host checked against `ALLOWED_HOSTS`, so that a rebound DNS name
    does not pass.
    """
    origin = handshake.META.get("HTTP_ORIGIN")
    if origin is None:
        return True
    if origin in socket_settings.ALLOWED_ORIGINS:
        return True
    # A new one each time, because it caches settings, which a test may override. It is only asked
    # about the origin and never answers a request.
    middleware = CsrfViewMiddleware(lambda request: HttpResponse())
    is_verified: bool = middleware._origin_verified(handshake)
    return is_verified


def warn_of_origin(consequence: str, scope: Mapping[str, Any]) -> None:
    """
    Log that an origin is not trusted and which settings admit it: once a minute for each origin.

    `consequence` is the effect on its sockets.
    """
    headers = dict(scope.get("headers", []))
    origin, host = (
        headers.get(name, b"").decode("latin-1")[:_MAX_CHARS] for name in (b"origin", b"host")
    )
    now = time.monotonic()
    for known in [k for k, at in _warned.items() if now - at >= _SECONDS_BETWEEN_WARNINGS]:
        del _warned[known]
    if (origin, consequence) in _warned or len(_warned) >= _MAX_WARNED:
        return
    _warned[origin, consequence] = now
    logger.warning(
        "A websocket of origin %r for host %r is not trusted: %s. To admit pages of this origin, "
        "add it to CSRF_TRUSTED_ORIGINS or REST_CHANNELS['ALLOWED_ORIGINS']. If it is the site's "
        "own, its host must be in ALLOWED_HOSTS, and a proxy must pass Host and the scheme.",
        origin,
        host,
        consequence,
    )


def refusal(stream: Stream, handshake: Handshake, *, is_row: bool = False) -> CloseCode | None:
    """
    Return the code to close this socket with if `stream` is all it has and refuses its user.

    It does if authentication and permissions of every action refuse: `CREDENTIALS_ENDED` if no user
    is signed in, else `NOT_ALLOWED`. None if any action lets the user in. In a worker thread.

    A permission class that needs a frame to decide does not count as a refusal.
    """
    codes = [CloseCode.CREDENTIALS_ENDED]
    for endpoint in stream.endpoints:
        if is_row and not endpoint.is_detail:
            continue
        for verb, action in list(endpoint.mapping.items()):
            code = _refusal_of(stream, endpoint, verb, action, handshake)
            if code is None:
                return None
            codes.append(code)
    return max(codes)


def _refusal_of(
    stream: Stream, endpoint: Endpoint, verb: str, action: str, handshake: Handshake
) -> CloseCode | None:
    call = stream.call_at_mount(endpoint, verb, handshake)
    request = MessageRequest(handshake, Frame(action), call)
    callback = endpoint.pattern.callback
    view = callback.cls(**callback.initkwargs)
    view.action_map, view.args, view.kwargs = dict(endpoint.mapping), (), dict(call.kwargs)
    try:
        view.request = view.initialize_request(request, **view.kwargs)
        view.perform_authentication(view.request)
        handshake.credentials.note_user(request)
        view.check_permissions(view.request)
        return None
    except (NotAuthenticated, AuthenticationFailed, PermissionDenied, DjangoPermissionDenied):
        # As DRF found it: another lookup could raise again.
        user = getattr(view.request, "_user", None)
        is_known = user is not None and user.is_authenticated
        return CloseCode.NOT_ALLOWED if is_known else CloseCode.CREDENTIALS_ENDED
    except KeyboardInterrupt:
        raise
    except BaseException:
        logger.debug("A handshake could not be judged; each of its frames will be.", exc_info=True)
        return None


def mount_of(path: str, pattern: RegexPattern | RoutePattern) -> str:
    """
    Return where on this path the router of `pattern` is mounted, with a trailing slash.

    Channels' URLRouter reveals what it matched, not where: it is the leftmost slash behind which
    the pattern matches the rest.
    """
    position = path.find("/")
    while position != -1:
        if pattern.match(path[position + 1 :]) is not None:
            return path[: position + 1]
        position = path.find("/", position + 1)
    return "/"
