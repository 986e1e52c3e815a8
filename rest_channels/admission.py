"""
Who may open a socket: the policy of its streams, asked once at the handshake.
"""

from __future__ import annotations

import logging

from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated, PermissionDenied

from rest_channels.protocol import Frame
from rest_channels.request import Handshake, MessageRequest
from rest_channels.streams import Endpoint, Stream

logger = logging.getLogger("rest_channels")


def admits(stream: Stream, handshake: Handshake, *, is_row: bool = False) -> bool:
    """
    Whether `stream` has any action whose authentication and permissions let this socket's user
    in; in a worker thread. Where no stream of a socket has one, the handshake can be refused.

    What a permission class cannot say without a frame is left to the frames.
    """
    return any(
        _is_open(stream, endpoint, verb, action, handshake)
        for endpoint in stream.endpoints
        if endpoint.is_detail or not is_row
        for verb, action in list(endpoint.mapping.items())
    )


def _is_open(
    stream: Stream, endpoint: Endpoint, verb: str, action: str, handshake: Handshake
) -> bool:
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
        return True
    except (NotAuthenticated, AuthenticationFailed, PermissionDenied, DjangoPermissionDenied):
        return False
    except KeyboardInterrupt:
        raise
    except BaseException:
        logger.debug("A handshake could not be judged; its frames will be.", exc_info=True)
        return True
