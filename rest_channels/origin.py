"""
Whose pages may open a socket.

A browser sends cookies with a handshake from any page; the Origin header tells which page it
was. Checking it once, exactly, stands in for the CSRF token that a message cannot carry.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from rest_channels.settings import socket_settings


def is_trusted(handshake: HttpRequest) -> bool:
    """
    Whether cookies sent with this handshake may count.

    True without an Origin header (no browser sends a handshake without one), for the site's own
    origin, for `CSRF_TRUSTED_ORIGINS` and for `REST_CHANNELS["ALLOWED_ORIGINS"]`. The first two
    are Django's own rule, the Host checked against `ALLOWED_HOSTS`, so that a rebound DNS name
    does not pass.
    """
    origin = handshake.META.get("HTTP_ORIGIN")
    if origin is None:
        return True
    if origin in socket_settings.ALLOWED_ORIGINS:
        return True
    # A new one each time: it keeps what it read of the settings, which a test may override. It is
    # only asked about the origin and never answers a request.
    return CsrfViewMiddleware(lambda request: HttpResponse())._origin_verified(handshake)
