"""The connection's own action `fence`, for writes over HTTP."""

from __future__ import annotations

from dataclasses import replace

from rest_channels.exceptions import FrameError
from rest_channels.live import fence_tokens
from rest_channels.protocol import Frame, Reply
from rest_channels.sockets.dispatch import Exchange
from rest_channels.sockets.request import Handshake
from rest_channels.sockets.streams import Stream


class Fencing(Exchange):
    """A frame that does nothing, whose reply waits as if it had written what the token is for."""

    def __init__(self, stream: Stream, frame: Frame, handshake: Handshake) -> None:
        """Check the token. Raises `FrameError` if `frame.data` has none that is valid."""
        try:
            _check(frame)
        except FrameError as error:
            error.action, error.request_id = frame.action, frame.request_id
            raise
        super().__init__(stream, replace(frame, fence=True), handshake)

    async def reply(self) -> Reply:
        """Return the reply, which makes no hop."""
        return Reply(200, action=self.frame.action, request_id=self.frame.request_id)


def _check(frame: Frame) -> None:
    if not isinstance(frame.data, dict) or "token" not in frame.data:
        raise FrameError(
            "'data' must be an object with the 'token' of a response.", code="required"
        )
    token = frame.data["token"]
    if not isinstance(token, str) or not fence_tokens.is_valid(token):
        raise FrameError(
            f"Must be the {fence_tokens.HEADER} of a response, not older than RETENTION_SECONDS.",
            code="invalid",
            key="token",
        )
