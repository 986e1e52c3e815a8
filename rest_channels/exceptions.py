"""
The errors this package raises.

    FrameError        a client's message that cannot be understood; answered 400
    ConsumerError     what a handler of a class-based consumer refuses; answered with its text

Wrong configuration raises Django's `ImproperlyConfigured`. What an action raises is DRF's
business: its exception handler turns it into the reply.
"""

from __future__ import annotations


class FrameError(Exception):
    """
    A message that is no frame.

    The connection answers it with `status`, echoing `action` and `request_id` where they could
    be read (None where not), and goes on. `detail` is shown to the client: it never quotes code.
    """

    status = 400

    def __init__(
        self,
        detail: str,
        *,
        code: str = "parse_error",
        action: str | None = None,
        request_id: str | int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.action = action
        self.request_id = request_id


class ConsumerError(Exception):
    """
    Raised by a handler to tell the client what is wrong: `detail`, with `status` and `code`.

    Nothing is logged, for nothing has failed.
    """

    def __init__(self, detail: str, *, status: int = 400, code: str = "invalid") -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code
