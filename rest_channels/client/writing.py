"""A write that happens once, although its reply may be lost."""

from __future__ import annotations

from collections.abc import Callable

from rest_channels.client.incoming import Incoming
from rest_channels.client.wire import Call

Answered = Callable[[Incoming], None]


class Writing:
    """
    A write with a `key`, which is sent once more without it if the server takes none.

    `send` sends it with a key or with None; `no_keys` is called if this user may have no keys.
    """

    def __init__(
        self,
        key: str | None,
        send: Callable[[str | None, Answered], Call],
        on_reply: Answered,
        no_keys: Callable[[], None],
    ) -> None:
        self._has_key = key is not None
        self._is_stranger = False
        self._send = send
        self._on_reply = on_reply
        self._no_keys = no_keys
        #: The call that is sent or waits.
        self.call = send(key, self._answered)

    def _answered(self, reply: Incoming) -> None:
        if self._has_key and refuses_key(reply):
            self._has_key = False
            self._is_stranger = reply.codes[:1] == ["not_authenticated"]
            self.call = self._send(None, self._answered)
            return
        if self._is_stranger and reply.status < 400:
            self._no_keys()
        self._on_reply(reply)


def refuses_key(reply: Incoming) -> bool:
    """Return whether the server may have refused a write only because of its key."""
    if reply.status == 400:
        first = reply.errors[0] if reply.errors else None
        return isinstance(first, dict) and bool(first.get("idempotency_key"))
    return reply.codes[:1] in (["not_authenticated"], ["too_many_stored_replies"])
