"""
The errors this package raises.

    FrameError        a client's message that cannot be understood; answered with 400
    FrameTooLong      a message that is too long; answered with 413
    ConsumerError     a handler of a class-based consumer refuses; answered with its text

Wrong configuration raises Django's `ImproperlyConfigured`. DRF's exception handler turns the
exceptions of an action into the reply.
"""

from __future__ import annotations


class FrameError(Exception):
    """
    A message that is not a frame.

    The connection answers it with `status` and stays open. The answer echoes `action` and
    `request_id`, which are None if they could not be read. `detail` is shown to the client: it
    never quotes code. `key` names the frame's key that is wrong, if the answer is an error of that
    key.
    """

    status = 400

    def __init__(
        self,
        detail: str,
        *,
        code: str = "parse_error",
        action: str | None = None,
        request_id: str | int | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.action = action
        self.request_id = request_id
        self.key = key


class FrameTooLong(FrameError):
    """A message that is too long to be read as a whole."""

    status = 413

    def __init__(self) -> None:
        super().__init__(
            "A frame must not be longer than MAX_FRAME_BYTES, not counting 'held' and "
            "'held_ranges' of a subscription: send less at a time.",
            code="frame_too_long",
        )


class ConsumerError(Exception):
    """
    An error that a handler raises for the client: `detail`, with `status` and `code`.

    It is not logged, because nothing has failed.
    """

    def __init__(self, detail: str, *, status: int = 400, code: str = "invalid") -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code
