"""Run DRF's dispatch again for a subscriber, and find what its answer was made of."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from rest_framework import authentication

from rest_channels.live.exact_values import alike
from rest_channels.live.interface import Review, Shown
from rest_channels.live.visibility.request_tracking import (
    SOCKET,
    WatchedMessageRequest,
    WatchedRequest,
    reads_of,
    unwatched,
)
from rest_channels.protocol import Frame
from rest_channels.sockets.request import (
    Call,
    Handshake,
    activate_language,
    activate_script_prefix,
)
from rest_channels.workers.contexts import around_frame


def review(
    handshake: Handshake, frame: Frame, call: Call, on_shown: Callable[[Shown], None]
) -> Review:
    """
    Run DRF's dispatch to find what the subscriber of `frame` may see now; in a worker thread.

    Calls `on_shown` with the view's rows, within dispatch. Raises an exception that DRF's handler
    left alone: then it is unknown what the subscriber may see.
    """
    activate_script_prefix(handshake.scope)
    request = WatchedMessageRequest(handshake, frame, call, on_shown)
    activate_language(request)
    # As around the answer of `list`.
    with around_frame(request):
        response = call.view(request, **call.kwargs)
    # Reads of this function did not decide the outcome.
    with unwatched(request):
        reads = reads_in(request.view)
        handshake.credentials.note_user(request)
        shown = request.shown
    if response.status_code >= 400:
        return Review(response.status_code)
    if shown is None:
        raise ImproperlyConfigured(
            f"{type(request.view).__name__} answered a subscription without showing its rows: call "
            "super() in dispatch() and initial(), or set live = False on the viewset."
        )
    return Review(response.status_code, shown, reads)


def reads_in(view: Any) -> frozenset[str]:
    """Return the parts of its request that the code of `view` has read."""
    if not isinstance(view.request, WatchedRequest):
        # The project makes it, so its reads are unknown.
        return frozenset({SOCKET})
    return frozenset(reads_of(view.request))


def circumstances(view: Any, handshake: Handshake) -> Hashable:
    """
    Return everything that a project's own authentication class may look at, for comparison.

    Its user may have no key, or more attributes than the key determines. DRF's own classes look
    only at the session and the Authorization header. Any code may look at the socket's
    surroundings.
    """
    around = tuple((variable, alike(value)) for variable, value in handshake.variables.items())
    if all(type(a).__module__ == authentication.__name__ for a in view.get_authenticators()):
        return around or None
    return around, tuple(handshake.headers.items()), str(handshake.scope.get("client", [""])[0])
