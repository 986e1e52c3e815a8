"""Links from a page of the browsable API to the console, with the frame that asks for the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlencode

from channels.routing import get_default_application
from django.conf import settings
from django.urls import NoReverseMatch, get_script_prefix, reverse
from rest_framework.permissions import SAFE_METHODS
from rest_framework.settings import api_settings

from rest_channels.console.access import may_open
from rest_channels.consumers.consumer_streams import ConsumersStream
from rest_channels.routers import find_sockets
from rest_channels.sockets.endpoints import SUBSCRIPTIONS
from rest_channels.sockets.query_keys import page_keys
from rest_channels.sockets.streams import Stream

# Values that must not be part of an address, even behind '#'.
_SECRET: Final = re.compile(r"authorization|password|token|secret|jwt|api_?key|credentials", re.I)


def live_link(view: Any, request: Any) -> str | None:
    """Return the link for the page that `view` shows; None if no socket serves its rows."""
    action = getattr(view, "action", None)
    if action is None or not getattr(settings, "ASGI_APPLICATION", None):
        return None
    if not may_open(request, view):
        return None
    try:
        console = reverse("rest_channels_console:page")
    except NoReverseMatch:
        return None
    found = _stream_of(view)
    if found is None:
        return None
    path, stream = found
    action = _live_action(stream, action)
    if action is None:
        return None
    frame = {"action": action, **_lookups(view), **_query(view, request)}
    fields = {"stream": stream.prefix, "socket": path, "frame": json.dumps(frame)}
    return f"{console}#{urlencode(fields)}"


def _stream_of(view: Any) -> tuple[str, Stream] | None:
    """Return the stream of the viewset, of several the one with the same basename, and its root."""
    streams = [item for item in _streams() if issubclass(item[1].viewset, type(view))]
    same = [item for item in streams if item[1].basename == getattr(view, "basename", None)]
    return next(iter([*same, *streams]), None)


def _streams() -> Iterator[tuple[str, Stream]]:
    """Yield the viewsets on sockets that the console can open: roots first."""
    sockets = [socket for socket in find_sockets(get_default_application()) if not socket.is_row]
    for socket in sorted(sockets, key=lambda socket: not socket.is_root):
        for stream in socket.streams:
            if isinstance(stream, Stream) and not isinstance(stream, ConsumersStream):
                yield get_script_prefix() + socket.path.removeprefix("/"), stream


def _live_action(stream: Stream, action: str) -> str | None:
    """Return the action that follows what `action` shows, or `action` itself if GET reaches it."""
    subscriptions = {shown: name for name, shown in SUBSCRIPTIONS.items() if name in stream.actions}
    if action in subscriptions:
        return subscriptions[action]
    if action not in stream.actions:
        return None
    verbs = {verb.upper() for verb in stream.verbs(action)}
    return action if verbs & {*SAFE_METHODS} else None


def _lookups(view: Any) -> dict[str, Any]:
    return {
        name: value
        for name, value in view.kwargs.items()
        if name != api_settings.FORMAT_SUFFIX_KWARG
    }


def _query(view: Any, request: Any) -> dict[str, Any]:
    """Return the page's query, without the page, the format and anything secret."""
    pages = page_keys(getattr(view, "pagination_class", None))
    left_out = {api_settings.URL_FORMAT_OVERRIDE, *pages}
    query = {
        name: values[0] if len(values) == 1 else values
        for name, values in request.query_params.lists()
        if name not in left_out and not _SECRET.search(name)
    }
    return {"query": query} if query else {}
