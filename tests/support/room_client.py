"""A client of rooms over a real socket, as docs/live.md asks for one."""

from __future__ import annotations

import json
from typing import Any

from websockets.exceptions import ConnectionClosed

from tests.support.server_processes import Address, answer, ask, reply
from tests.support.stepped_processes import SECONDS
from tests.support.subscription_stories import as_user


class Client:
    """
    Holds rows by key. Each message has to go on from the last position.
    """

    def __init__(self, user: Any = None) -> None:
        self.headers = as_user(user)
        self.rows: dict[int, Any] = {}
        self.position: str | None = None
        self.socket: Any = None
        self.is_subscribed = False
        #: Every row that it was ever shown.
        self.shown: list[Any] = []

    def subscribe(self, server: Address) -> Client:
        """Open a socket to `server` and subscribe there, going on where it was."""
        self.connect(server)
        self.ask_to_subscribe()
        self.take_acknowledgement()
        return self

    def connect(self, server: Address, *, is_lazy: bool = False) -> None:
        """Lazy is who reads hardly more of the network than the test asks for."""
        self.leave()
        opening = server.connect_lazily() if is_lazy else self._opening(server)
        self.socket = opening.__enter__()

    def _opening(self, server: Address) -> Any:
        return server.connect("/", additional_headers=self.headers)

    def ask_to_subscribe(self) -> None:
        resume = {} if self.position is None else {"since": self.position, "held": [*self.rows]}
        ask(self.socket, "subscribe", "rooms", snapshot=True, **resume)
        self.is_subscribed = False

    def take_acknowledgement(self) -> None:
        acknowledged = reply(self.socket)
        assert acknowledged["response_status"] == 201, acknowledged
        assert acknowledged["resumed"] == (self.position is not None)
        if acknowledged["data"] is not None:
            self._hold(acknowledged["data"])
        self.position = acknowledged["position"]
        self.is_subscribed = True

    def leave(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def take(self, seconds: float = SECONDS) -> str:
        """Wait for the next event, and return its action. Raises `TimeoutError`."""
        payload = json.loads(self.socket.recv(seconds))
        assert payload["request_id"] == "rooms", payload
        self._follow(payload)
        return payload["action"]

    def take_until(self, rows: list[Any]) -> None:
        """Wait until it holds `rows`."""
        while self.held != rows:
            self.take()

    def take_rest(self) -> int | None:
        """All that was sent before the socket was closed, or lost; returns the code."""
        if self.socket is None:
            return None
        try:
            if not self.is_subscribed:
                self.take_acknowledgement()
            while True:
                self.take()
        except ConnectionClosed as closed:
            self.leave()
            return closed.rcvd and closed.rcvd.code

    @property
    def held(self) -> list[Any]:
        return [self.rows[pk] for pk in sorted(self.rows)]

    def _hold(self, rows: list[Any]) -> None:
        self.rows = {row["id"]: row for row in rows}
        self.shown += rows

    def _follow(self, payload: dict[str, Any]) -> None:
        assert payload["previous"] == self.position, payload
        self.position = payload["position"]
        match payload["action"]:
            case "create" | "update":
                self.shown.append(payload["data"])
                self.rows[payload["data"]["id"]] = payload["data"]
            case "delete":
                del self.rows[payload["data"]["pk"]]
            case "reset":
                self._hold(payload["data"])
            case action:
                assert action == "sync", payload


def listed(server: Address, user: Any = None) -> list[Any]:
    """Return the rows that `list` shows `user` now."""
    with server.connect("/", additional_headers=as_user(user)) as socket:
        shown = answer(socket, "list")
    assert shown["response_status"] == 200, json.dumps(shown)
    return shown["data"]
