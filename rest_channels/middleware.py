"""
Middleware for the HTTP half of a project.

    MIDDLEWARE = ["rest_channels.middleware.FenceMiddleware", ...]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest

from rest_channels.live.capture import commits
from rest_channels.live.fence_tokens import HEADER, make_token
from rest_channels.settings import socket_settings

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class FenceMiddleware:
    """
    Adds a token to responses of requests that may have committed changes.

    The header `Rest-Channels-Fence` has the token for the action `fence`. All requests with an
    unsafe method have one, because a write by raw SQL is not noticed here, and so has any other
    request that has rung the doorbell. Put it first, so that all code that writes is within.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self._is_async:
            return self._answer(request)
        with commits.noting() as committed:
            response = self.get_response(request)
        return _with_token(request, response, committed)

    async def _answer(self, request: HttpRequest) -> Any:
        with commits.noting() as committed:
            response = await self.get_response(request)
        return _with_token(request, response, committed)


def _with_token(request: HttpRequest, response: Any, committed: set[str]) -> Any:
    may_have_written = committed or request.method not in _SAFE
    if may_have_written and socket_settings.CAPTURE is not None:
        response.headers[HEADER] = make_token()
    return response
