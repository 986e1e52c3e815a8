"""Running random programs step by step, with the promises that hold after each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from rest_channels.live.log import store
from tests.support.random_programs.clients import Broken, Client
from tests.support.random_programs.world_kind import Kind, Step, Subject
from tests.support.stepped_processes import Process, Processes

#: Steps in which no process does anything, unless a doorbell rings.
QUIET = {"write", "tick", "prune", "cut"}


class Run:
    """
    One program, on two processes, in a world of one `kind`. After each step doorbells may `ring`;
    it says whether some did. `tally` counts what happens. Raises `Broken`.
    """

    def __init__(
        self,
        kind: Kind,
        shared: Processes,
        processes: list[Process],
        headers: dict[str, list[dict[str, str]]],
        ring: Callable[[], bool],
        tally: Counter[str],
    ) -> None:
        self.kind = kind
        self.shared = shared
        self.processes = processes
        self.headers = headers
        self.ring = ring
        self.tally = tally
        self.writer = kind.writer(tally)
        self.clients: list[Client] = []
        self.versions: list[Any] = []
        self._sight = lru_cache(None)(self._see)

    def run(self, program: list[Step]) -> None:
        with self.kind.around(self.shared):
            self._run(program)

    def _run(self, program: list[Step]) -> None:
        self.shared.write(self.kind.forget)
        # Nobody saw that: what the program before was answered may be relied on for a lease.
        self.shared.clock.now += 60
        self.shared.write(self._note_version)
        try:
            for name, *args in program:
                since = len(self.versions) - 1
                getattr(self, name)(*args)
                if self.ring() or name not in QUIET:
                    self._collect(since)
            self._finish()
            self.tally["programs"] += 1
        finally:
            self.shared.hooks.clear()
            for client in self.clients:
                if client.socket is not None:
                    client.socket.leave()
            for process in self.processes:
                process.catch_up()

    # Steps

    def write(self, writes: list[Step]) -> None:
        self.shared.write(lambda: self._write(writes))

    def look(self, process: int) -> None:
        self.processes[process].look()

    def tick(self, seconds: float) -> None:
        self.shared.clock.now += seconds

    def prune(self) -> None:
        """Forget the log but its last entry."""
        end = self.shared.write(lambda: store.head("default"))
        older = store.entries("default").filter(position__lt=end.number)
        self.shared.write(lambda: older._raw_delete("default"))

    def look_while(self, process: int, meanwhile: Step, before: list[Step]) -> None:
        self.write(before)
        self._at(*meanwhile)
        self.look(process)
        self.shared.hooks.clear()

    def open(
        self, process: int, user: str, stream: str, query: Any, row: int | None, mode: str
    ) -> None:
        if row is not None:
            names = self.kind.names(self.versions[-1], stream)
            if not names:
                return
            row = names[row % len(names)]
        subject = Subject(stream, tuple(query) if row is None else (), row)
        client = self.kind.client(user, subject)
        self.clients.append(client)
        self._subscribe(client, process, mode)

    def open_while(self, meanwhile: Step, *args: Any) -> None:
        self._at(*meanwhile)
        self.open(*args)
        self.shared.hooks.clear()

    def cut(self, number: int, count: int) -> None:
        """The connection is lost when the client has read `count` of the frames."""
        if (client := self._client(number, is_connected=True)) is not None:
            self.tally["cut"] += 1
            client.read(count % (len(client.inbox) + 1))
            client.inbox.clear()
            client.socket.leave()
            client.socket = None

    def resume(self, number: int, process: int, mode: str) -> None:
        if (client := self._client(number, is_connected=False)) is not None:
            self._subscribe(client, process, mode)

    def resume_while(self, meanwhile: Step, *args: Any) -> None:
        self._at(*meanwhile)
        self.resume(*args)
        self.shared.hooks.clear()

    def again(self, number: int, mode: str) -> None:
        """Subscribe once more on the same socket, by the same name."""
        if (client := self._client(number, is_connected=True)) is not None:
            client.read()
            self._ask_to_subscribe(client, mode)

    def grow(self, number: int, size: int | None) -> None:
        """Ask for a window of another size, on the same socket and by the same name."""
        if (client := self._client(number, is_connected=True)) is not None and client.has_order:
            client.read()
            client.window = size
            self.tally["grown"] += 1
            self._ask_to_subscribe(client, "held")

    def unsubscribe(self, number: int) -> None:
        if (client := self._client(number, is_connected=True)) is not None:
            self._unsubscribe(client)

    # How

    def _client(self, number: int, *, is_connected: bool) -> Client | None:
        found = [c for c in self.clients if (c.socket is not None) == is_connected]
        return found[number % len(found)] if found else None

    def _at(self, moment: str, writes: list[Step], is_sequenced: bool) -> None:
        self.shared.at(moment, lambda: self._write(writes), is_sequenced=is_sequenced)

    def _write(self, writes: list[Step]) -> None:
        for write in writes:
            self.writer.perform([write])
            self._note_version()

    def _note_version(self) -> None:
        self.versions.append(self.kind.read())

    def _see(self, version: int, user: str, subject: Subject) -> dict[Any, Any] | None:
        return self.kind.visible(self.versions[version], user, subject)

    def _unsubscribe(self, client: Client) -> None:
        _, reply = client.socket.ask("unsubscribe", request_id="topic")
        if reply["response_status"] != 204:
            raise Broken(f"{client} was not let go: {reply}")
        client.is_live, client.position, client.rows = False, None, {}
        client.inbox.clear()

    def _subscribe(self, client: Client, process: int, mode: str) -> None:
        subject = client.subject
        path = f"/{subject.stream}/"
        headers = self.headers[client.user][process]
        if self._sight(len(self.versions) - 1, client.user, subject) is None:
            # The handshake is refused.
            client.is_live, client.position, client.rows = False, None, {}
            return
        self.tally["resumed elsewhere"] += client.place not in (None, process)
        client.place = process
        client.socket = self.processes[process].connect(self.kind.application, path, headers)
        self._ask_to_subscribe(client, mode)

    def _ask_to_subscribe(self, client: Client, mode: str) -> None:
        subject, since = client.subject, len(self.versions) - 1
        keys: dict[str, Any] = {"request_id": "topic", **client.options}
        if subject.row is not None:
            keys["pk"] = _named(subject)
        if subject.query:
            keys["query"] = dict(subject.query)
        if client.position is None and (mode != "changes" or client.has_order):
            mode = "snapshot"
        if mode == "snapshot":
            keys["snapshot"] = True
        elif mode != "changes":
            keys["since"], keys["snapshot"] = client.position, True
            if mode == "held":
                keys["held"] = list(client.rows)
        action = "subscribe" if subject.row is None else "subscribe_instance"
        before, reply = client.socket.ask(action, **keys)
        # The work of the process after a client has joined, or was refused, belongs to this step.
        client.socket.process.settle()
        if client.stream.is_refused:
            self._check_refusal(client, reply)
            return
        self._receive(client, before, since)
        client.read()
        sights = self._sights(client, since)
        self.tally["subscribed" if reply["response_status"] == 201 else "refused"] += 1
        self.tally["resumed"] += bool(reply.get("resumed"))
        if reply["response_status"] != 201:
            is_late = self.kind.is_lagging and reply["response_status"] in (403, 404)
            if all(sight is not None and sight for sight in sights) and not is_late:
                raise Broken(f"{client} was refused: {reply}")
            # Whether there is still one of that name or not.
            self._unsubscribe(client)
            return
        if subject.row is not None and not any(sights):
            raise Broken(f"{client} was let in: {reply}")
        if reply["data"] is not None:
            self._check_snapshot(client, reply["data"], since)
        client.on_acknowledged(reply, mode)
        if mode == "blind":
            # A client that does not name the rows it holds misses the ends of those that ended
            # meanwhile or while it joins. It receives a later end twice, in effect.
            ended = [pk for pk in client.rows if not (sights[-1] and pk in sights[-1])]
            for pk in ended:
                del client.rows[pk]

    def _check_refusal(self, client: Client, reply: dict[str, Any]) -> None:
        if (reply["response_status"], reply.get("codes")) != (400, ["cannot_subscribe"]):
            raise Broken(f"{client} was not refused: {reply}")
        self.tally["documented refusals"] += 1
        self._unsubscribe(client)

    def _collect(self, since: int) -> None:
        for client in self.clients:
            if client.socket is not None:
                self._receive(client, client.socket.drain(), since)

    def _receive(self, client: Client, frames: list[dict[str, Any]], since: int) -> None:
        """Check that nothing in `frames` was secret in all versions `since`."""
        now = len(self.versions) - 1
        for frame in frames:
            if frame["request_id"] != "topic" or frame["response_status"] >= 500:
                raise Broken(f"{client} received {frame}")
            if frame["action"] == "reset":
                if frame["data"] is not None:
                    self._check_snapshot(client, frame["data"], since)
            elif frame["action"] == "delete":
                self._check_removal(client, frame["data"]["pk"])
            else:
                sights = self._sights(client, since)
                for name, row in client.by_name(frame["data"]).items():
                    if not any(sight and sight.get(name) == row for sight in sights):
                        raise Broken(f"{client} was shown {frame}, seeing {sights}")
            self.tally[frame["action"]] += 1
            client.inbox.append((frame, since, now))

    def _sights(self, client: Client, since: int) -> list[Any]:
        versions = range(since, len(self.versions))
        return [self._sight(version, client.user, client.subject) for version in versions]

    def _check_removal(self, client: Client, pk: Any) -> None:
        """A client that could never see a row may not receive its key."""
        if not any(sight and pk in sight for sight in self._sights(client, 0)):
            raise Broken(f"{client} received the end of {pk}")

    def _check_snapshot(self, client: Client, data: Any, since: int) -> None:
        shown = client.by_name(data)
        if not any(client.is_all_of(sight, shown) for sight in self._sights(client, since)):
            raise Broken(f"{client} was shown {shown}, seeing {self._sights(client, since)}")

    def _finish(self) -> None:
        """All clients come back and receive everything; then each holds what `list` shows it."""
        for number, client in enumerate(self.clients):
            since = len(self.versions) - 1
            if client.socket is None:
                self._subscribe(client, number % len(self.processes), ["held", "blind"][number % 2])
                self._collect(since)
        since = len(self.versions) - 1
        for process in self.processes:
            process.catch_up()
        self._collect(since)
        self.kind.settle(self.shared)
        for client in self.clients:
            client.read()
            self._check(client)

    def _check(self, client: Client) -> None:
        seen = self._see(len(self.versions) - 1, client.user, client.subject)
        if not client.is_live:
            return
        shown = self._shown(client)
        if shown != (seen if client.subject.row is None or seen else None):
            raise Broken(f"{client} would be shown {shown}, and may see {seen}")
        shown = shown or {}
        client.check_order(shown, seen)
        if seen is None:
            raise Broken(f"{client} was not told that it may see nothing")
        if not client.holds_what_it_should(shown):
            raise Broken(f"{client} holds {client.rows}, and would be shown {shown}")

    def _shown(self, client: Client) -> dict[Any, Any] | None:
        """The rows that `list` or `retrieve` shows now."""
        keys: dict[str, Any] = {"query": dict(client.subject.query)}
        action = "list"
        if client.subject.row is not None:
            action, keys = "retrieve", {"pk": _named(client.subject)}
        _, reply = client.socket.ask(action, **keys)
        if reply["response_status"] != 200:
            return None
        return client.by_name(reply["data"])


def _named(subject: Subject) -> Any:
    # No frame names a row by a float.
    return str(subject.row) if isinstance(subject.row, float) else subject.row
