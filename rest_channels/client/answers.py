"""The answer of any action that reads, kept up to date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rest_channels.client.following import Followed
from rest_channels.client.incoming import Incoming, Key
from rest_channels.protocol import MISSING


@dataclass(frozen=True)
class WatchOptions:
    """The action `of` to watch, and what it takes."""

    of: str
    pk: Key | None = None
    query: Mapping[str, Any] | None = None
    headers: Mapping[str, str] | None = None
    lookups: Mapping[str, Key] | None = None


class FollowedAnswer(Followed):
    """The subscription to an answer. `data` is `MISSING` until there is one."""

    def __init__(self, *args: Any, options: WatchOptions) -> None:
        super().__init__(*args)
        self.data: Any = MISSING
        self._options = options

    def frame(self) -> Mapping[str, Any]:
        options = self._options
        known = {
            "pk": options.pk,
            "query": options.query,
            "headers": options.headers,
            "since": self.position,
        }
        given = {name: value for name, value in known.items() if value is not None}
        return {**(options.lookups or {}), "action": "watch", "of": options.of, **given}

    def farewell(self) -> Mapping[str, Any]:
        return {"action": "unwatch", "request_id": self.id}

    def begin(self, reply: Incoming) -> bool:
        if not reply.resumed:
            self.data = reply.data
        return True

    def follow(self, event: Incoming) -> None:
        if event.action == "change":
            self.data = event.data

    def clear(self) -> None:
        self.data = MISSING
