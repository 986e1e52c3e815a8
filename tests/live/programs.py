"""
Random programs on `tests.live.world`: who writes, subscribes, leaves, comes back, and when.

A program is a list of steps, data and nothing else, so that a failing one can be made shorter.
Numbers in it choose among what is there when the step comes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction

from rest_channels.live import log
from tests.live import world
from tests.live.processes import MOMENTS, Process, Processes, Socket
from tests.live.world import Subject, World
from tests.models import Ban, Club, Label, Note

USERS = ["ann", "ben", "cal"]
QUERIES = [(), (), (("is_pinned", "true"),), (("is_pinned", "false"),)]
LABELS = ["red", "blue"]

Step = tuple[Any, ...]

#: Steps in which no process does anything, unless a doorbell rings.
QUIET = {"write", "tick", "prune", "cut"}


class Broken(AssertionError):
    """A promise was not kept."""


# Writes


class _Rollback(Exception):
    pass


class Writer:
    """Performs the writes of programs; in the thread that writes."""

    def __init__(self, tally: Counter[str]) -> None:
        self._tally = tally
        self._count = 0

    def mark(self) -> str:
        """A text that was never there."""
        self._count += 1
        return f"mark {self._count}"

    def perform(self, writes: list[Step]) -> None:
        """One after the other; those of a transaction together."""
        for name, *args in writes:
            getattr(self, name)(*args)

    def transaction(self, writes: list[Step], is_kept: bool) -> None:
        try:
            with transaction.atomic():
                self.perform(writes)
                if not is_kept:
                    raise _Rollback
        except _Rollback:
            self._tally["rolled back"] += 1

    # Of one row

    def create(self, club: int, is_pinned: bool) -> None:
        if (owner := _one(Club, club)) is not None:
            Note.objects.create(club=owner, text=self.mark(), is_pinned=is_pinned)

    def edit(self, number: int) -> None:
        if (note := _one(Note, number)) is not None:
            note.text = self.mark()
            note.save()

    def pin(self, number: int) -> None:
        if (note := _one(Note, number)) is not None:
            note.is_pinned = not note.is_pinned
            note.save(update_fields=["is_pinned"])

    def move(self, number: int, club: int) -> None:
        note, owner = _one(Note, number), _one(Club, club)
        if note is not None and owner is not None:
            note.club = owner
            note.save()

    def delete(self, number: int) -> None:
        if (note := _one(Note, number)) is not None:
            note.delete()

    def delete_all(self, club: int) -> None:
        if (owner := _one(Club, club)) is not None:
            owner.notes.all().delete()

    # Of many, by the manager that notes it

    def update_many(self, club: int) -> None:
        if (owner := _one(Club, club)) is not None:
            Note.objects.filter(club=owner).update(text=self.mark())

    def create_many(self, club: int) -> None:
        if (owner := _one(Club, club)) is not None:
            Note.objects.bulk_create(Note(club=owner, text=self.mark()) for _ in range(2))

    def bulk_update(self, number: int) -> None:
        notes = list(Note.objects.order_by("pk"))[: number % 3 + 1]
        for note in notes:
            note.is_pinned, note.text = not note.is_pinned, self.mark()
        Note.objects.bulk_update(notes, ["is_pinned", "text"])

    def hide_many(self, is_staff_only: bool) -> None:
        Club.objects.filter(is_staff_only=not is_staff_only).update(is_staff_only=is_staff_only)

    # Of what decides who sees it, and how it looks

    def label(self, number: int, name: str) -> None:
        if (note := _one(Note, number)) is not None:
            label = Label.objects.filter(name=name).first() or Label.objects.create(name=name)
            if note.labels.filter(pk=label.pk).exists():
                note.labels.remove(label)
            else:
                note.labels.add(label)

    def label_all(self, name: str) -> None:
        label = Label.objects.filter(name=name).first() or Label.objects.create(name=name)
        label.notes.set(Note.objects.order_by("pk")[:2])

    def clear_labels(self, number: int) -> None:
        if (note := _one(Note, number)) is not None:
            note.labels.clear()

    def delete_label(self, number: int) -> None:
        if (label := _one(Label, number)) is not None:
            label.delete()

    def open_club(self, is_staff_only: bool) -> None:
        Club.objects.create(name=self.mark(), is_staff_only=is_staff_only)

    def rename(self, number: int) -> None:
        if (club := _one(Club, number)) is not None:
            club.name = self.mark()
            club.save()

    def hide(self, number: int) -> None:
        if (club := _one(Club, number)) is not None:
            club.is_staff_only = not club.is_staff_only
            club.save()

    def close_club(self, number: int) -> None:
        if (club := _one(Club, number)) is not None:
            club.delete()

    def enter(self, number: int, user: str) -> None:
        if (club := _one(Club, number)) is not None:
            club.members.add(_user(user))

    def exit(self, number: int, user: str) -> None:
        if (club := _one(Club, number)) is not None:
            club.members.remove(_user(user))

    def exit_all(self, user: str) -> None:
        _user(user).clubs.clear()

    def promote(self, user: str) -> None:
        account = _user(user)
        account.is_staff = not account.is_staff
        account.save()

    def ban(self, user: str) -> None:
        bans = Ban.objects.filter(user__username=user)
        if bans.exists():
            bans.delete()
        else:
            Ban.objects.create(user=_user(user))


def _one(model: Any, number: int) -> Any:
    rows = list(model._default_manager.order_by("pk"))
    return rows[number % len(rows)] if rows else None


def _user(name: str) -> Any:
    return get_user_model()._default_manager.get(username=name)


# What clients know


class Client:
    """
    A client as the protocol asks for one. It holds rows, knows the last position, and subscribes
    again where it has to. `inbox` is what it was sent and has not read: frames, with the
    versions of the world between which they were made.
    """

    def __init__(self, user: str, subject: Subject) -> None:
        self.user = user
        self.subject = subject
        self.socket: Socket | None = None
        #: The process it was connected to last.
        self.place: int | None = None
        self.inbox: list[tuple[dict[str, Any], int, int]] = []
        self.rows: dict[int, Any] = {}
        self.position: str | None = None
        self.is_live = False
        #: Holds all that there is to see, as far as it was told; else only what changed.
        self.is_whole = False

    def __repr__(self) -> str:
        return f"<{self.user} at {self.subject}>"

    def read(self, count: int | None = None) -> None:
        """Take note of the first `count` frames of the inbox."""
        count = len(self.inbox) if count is None else count
        taken, self.inbox = self.inbox[:count], self.inbox[count:]
        for frame, *_ in taken:
            self._take(frame)

    def on_acknowledged(self, reply: dict[str, Any], mode: str) -> None:
        self.position, self.is_live = reply["position"], True
        if mode == "snapshot":
            self._hold(reply["data"])
        elif mode == "changes":
            self.rows, self.is_whole = {}, False

    def _take(self, frame: dict[str, Any]) -> None:
        if not self.is_live:
            raise Broken(f"{self} was told {frame} of a subscription that is over")
        if frame["action"] == "revoke":
            self.rows, self.is_live, self.position = {}, False, None
            return
        if frame["previous"] != self.position:
            raise Broken(f"{self} knows {self.position} and was told {frame}")
        self.position = frame["position"]
        match frame["action"]:
            case "create" | "update":
                self.rows[frame["data"]["id"]] = frame["data"]
            case "delete":
                self.rows.pop(frame["data"]["pk"], None)
            case "reset":
                if frame["data"] is not None:
                    self._hold(frame["data"])
                else:
                    self.rows, self.is_whole = {}, False
            case "sync":
                pass
            case other:
                raise Broken(f"{self} was told {other}")

    def _hold(self, data: Any) -> None:
        self.rows = {row["id"]: row for row in contents(data)}
        self.is_whole = True


def contents(data: Any) -> list[Any]:
    """The rows that a snapshot or an event shows."""
    rows = data if isinstance(data, list) else [data] if data and "id" in data else []
    for row in rows:
        if "labels" in row:
            row["labels"].sort()
    return rows


# Runs


class Run:
    """
    One program, on two processes. After each step doorbells may `ring`; it says whether some did.
    `tally` counts what happens. Raises `Broken`.
    """

    def __init__(
        self,
        shared: Processes,
        processes: list[Process],
        headers: dict[str, list[dict[str, str]]],
        ring: Callable[[], bool],
        tally: Counter[str],
    ) -> None:
        self.shared = shared
        self.processes = processes
        self.headers = headers
        self.ring = ring
        self.tally = tally
        self.writer = Writer(tally)
        self.clients: list[Client] = []
        self.versions: list[World] = []
        self._sight = lru_cache(None)(self._see)

    def run(self, program: list[Step]) -> None:
        self.shared.write(world.forget)
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
                process.look()

    # Steps

    def write(self, writes: list[Step]) -> None:
        self.shared.write(lambda: self._write(writes))

    def look(self, process: int) -> None:
        self.processes[process].look()

    def tick(self, seconds: float) -> None:
        self.shared.clock.now += seconds

    def prune(self) -> None:
        """Forget the log but its last entry."""
        end = self.shared.write(lambda: log.head("default"))
        older = log.entries("default").filter(position__lt=end.number)
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
            notes = sorted(self.versions[-1].notes)
            if not notes:
                return
            row = notes[row % len(notes)]
        client = Client(user, Subject(stream, tuple(query) if row is None else (), row))
        self.clients.append(client)
        self._subscribe(client, process, mode)

    def open_while(self, meanwhile: Step, *args: Any) -> None:
        self._at(*meanwhile)
        self.open(*args)
        self.shared.hooks.clear()

    def cut(self, number: int, count: int) -> None:
        """The connection is lost when the client has read so many of the frames."""
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
        self.versions.append(world.read())

    def _see(self, version: int, user: str, subject: Subject) -> dict[int, Any] | None:
        return world.visible(self.versions[version], user, subject)

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
        client.socket = self.processes[process].connect(world.application, path, headers)
        self._ask_to_subscribe(client, mode)

    def _ask_to_subscribe(self, client: Client, mode: str) -> None:
        subject, since = client.subject, len(self.versions) - 1
        keys: dict[str, Any] = {"request_id": "topic"}
        if subject.row is not None:
            keys["pk"] = subject.row
        if subject.query:
            keys["query"] = dict(subject.query)
        if client.position is None and mode != "changes":
            mode = "snapshot"
        if mode == "snapshot":
            keys["snapshot"] = True
        elif mode != "changes":
            keys["since"], keys["snapshot"] = client.position, True
            if mode == "held":
                keys["held"] = list(client.rows)
        action = "subscribe" if subject.row is None else "subscribe_instance"
        before, reply = client.socket.ask(action, **keys)
        # What the process does once it has let somebody in belongs to this step.
        client.socket.process.settle()
        self._receive(client, before, since)
        client.read()
        sights = self._sights(client, since)
        self.tally["subscribed" if reply["response_status"] == 201 else "refused"] += 1
        self.tally["resumed"] += bool(reply.get("resumed"))
        if reply["response_status"] != 201:
            if all(sight is not None and sight for sight in sights):
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
            # Who does not say what it holds is not told what ended meanwhile, nor what ends while
            # it is let in. Of what ends only afterwards it is told twice, in effect.
            ended = [pk for pk in client.rows if not (sights[-1] and pk in sights[-1])]
            for pk in ended:
                del client.rows[pk]

    def _collect(self, since: int) -> None:
        for client in self.clients:
            if client.socket is not None:
                self._receive(client, client.socket.drain(), since)

    def _receive(self, client: Client, frames: list[dict[str, Any]], since: int) -> None:
        """Check that nothing in `frames` was secret in all versions `since`."""
        now = len(self.versions) - 1
        for frame in frames:
            if frame["request_id"] != "topic" or frame["response_status"] >= 500:
                raise Broken(f"{client} was told {frame}")
            if frame["action"] == "reset":
                if frame["data"] is not None:
                    self._check_snapshot(client, frame["data"], since)
            elif frame["action"] == "delete":
                self._check_removal(client, frame["data"]["pk"])
            else:
                sights = self._sights(client, since)
                for row in contents(frame["data"]):
                    if not any(sight and sight.get(row["id"]) == row for sight in sights):
                        raise Broken(f"{client} was shown {frame}, seeing {sights}")
            self.tally[frame["action"]] += 1
            client.inbox.append((frame, since, now))

    def _sights(self, client: Client, since: int) -> list[Any]:
        versions = range(since, len(self.versions))
        return [self._sight(version, client.user, client.subject) for version in versions]

    def _check_removal(self, client: Client, pk: int) -> None:
        """Not even the key of a row may be told to who could never see it."""
        if not any(sight and pk in sight for sight in self._sights(client, 0)):
            raise Broken(f"{client} was told that {pk} ended")

    def _check_snapshot(self, client: Client, data: Any, since: int) -> None:
        shown = {row["id"]: row for row in contents(data)}
        if not any(sight == shown for sight in self._sights(client, since)):
            raise Broken(f"{client} was shown {shown}, seeing {self._sights(client, since)}")

    def _finish(self) -> None:
        """Everybody comes back, and everything is told; then all hold what they would be shown."""
        for number, client in enumerate(self.clients):
            since = len(self.versions) - 1
            if client.socket is None:
                self._subscribe(client, number % len(self.processes), ["held", "blind"][number % 2])
                self._collect(since)
        since = len(self.versions) - 1
        for process in self.processes:
            process.look()
        self._collect(since)
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
        if seen is None:
            raise Broken(f"{client} was not told that it may see nothing")
        expected = shown if client.is_whole else {pk: shown.get(pk) for pk in client.rows}
        if client.rows != expected:
            raise Broken(f"{client} holds {client.rows}, and would be shown {shown}")

    def _shown(self, client: Client) -> dict[int, Any] | None:
        """What `list` or `retrieve` shows now."""
        keys: dict[str, Any] = {"query": dict(client.subject.query)}
        action = "list"
        if client.subject.row is not None:
            action, keys = "retrieve", {"pk": client.subject.row}
        _, reply = client.socket.ask(action, **keys)
        if reply["response_status"] != 200:
            return None
        return {row["id"]: row for row in contents(reply["data"])}


# Making them up


def generate(rng: random.Random) -> list[Step]:
    """A program, with some clubs and notes to begin with."""
    program: list[Step] = [("write", _start(rng))]
    first = _opening(rng)
    _, process, _, *topic = first
    # Often somebody else beside, who may be told the same.
    alike = ("open", process, rng.choice(USERS), *topic)
    program += [first, alike if rng.random() < 0.5 else _opening(rng)]
    for _ in range(rng.randrange(3, 9)):
        program.append(_step(rng))
    return program


def _start(rng: random.Random) -> list[Step]:
    writes: list[Step] = [("open_club", False), ("open_club", rng.random() < 0.5)]
    writes += [("enter", rng.randrange(2), user) for user in USERS if rng.random() < 0.7]
    writes += [("create", rng.randrange(2), rng.random() < 0.5) for _ in range(3)]
    if rng.random() < 0.5:
        writes.append(("label", rng.randrange(3), rng.choice(LABELS)))
    if rng.random() < 0.3:
        writes.append(("promote", rng.choice(USERS)))
    return [("transaction", writes, True)]


def _opening(rng: random.Random) -> Step:
    return ("open", *_topic(rng), rng.choice(["snapshot", "snapshot", "snapshot", "changes"]))


def _topic(rng: random.Random) -> Step:
    stream = rng.choice([*world.VIEWSETS])
    query = rng.choice(QUERIES)
    if stream == "board" and rng.random() < 0.3:
        query = (("labels__name", rng.choice(LABELS)),)
    is_row = stream == "shelf" or rng.random() < 0.25
    row = rng.randrange(10) if is_row else None
    return rng.randrange(2), rng.choice(USERS), stream, query, row


def _step(rng: random.Random) -> Step:
    number = rng.randrange(100)
    mode = rng.choice(["held", "held", "held", "blind", "snapshot"])
    resume = (rng.randrange(10), rng.randrange(2), mode)
    make: Callable[[], Step]
    weighed: list[tuple[int, Callable[[], Step]]] = [
        (24, lambda: ("write", _writes(rng))),
        (14, lambda: ("look", rng.randrange(2))),
        (14, lambda: ("look_while", rng.randrange(2), _meanwhile(rng), _writes(rng))),
        (8, lambda: _opening(rng)),
        (4, lambda: ("open_while", _meanwhile(rng), *_opening(rng)[1:])),
        (11, lambda: ("cut", rng.randrange(10), rng.randrange(10))),
        (9, lambda: ("resume", *resume)),
        (4, lambda: ("resume_while", _meanwhile(rng), *resume)),
        (4, lambda: ("again", rng.randrange(10), mode)),
        (2, lambda: ("unsubscribe", rng.randrange(10))),
        (4, lambda: ("tick", rng.choice([3, 6]))),
        (2, lambda: ("prune",)),
    ]
    for weight, make in weighed:
        if number < weight:
            return make()
        number -= weight
    raise AssertionError("weights make a hundred")


def _meanwhile(rng: random.Random) -> Step:
    """
    A moment of a pass, and what is written then: often what was seen is hidden, and new. Another
    process may sequence it at once.
    """
    writes = _writes(rng)
    if rng.random() < 0.6:
        number, user = rng.randrange(10), rng.choice(USERS)
        hidings = [("exit_all", user), ("ban", user), ("hide_many", True), ("hide", number)]
        writes = [rng.choice(hidings), ("update_many", 0), ("update_many", 1)]
    return rng.choice(MOMENTS), writes, rng.random() < 0.5


def _writes(rng: random.Random) -> list[Step]:
    writes = [_write(rng) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    chance = rng.random()
    if chance < 0.5:
        return writes
    if chance < 0.7:
        return [("transaction", writes, True)]
    if chance < 0.85:
        # A savepoint that is rolled back, in a transaction that is not.
        inner = ("transaction", [_write(rng)], rng.random() < 0.3)
        return [("transaction", [*writes, inner, _write(rng)], True)]
    return [("transaction", writes, False)]


def _write(rng: random.Random) -> Step:
    number, club, user = rng.randrange(10), rng.randrange(10), rng.choice(USERS)
    return rng.choices(
        [
            ("create", club, rng.random() < 0.5),
            ("edit", number),
            ("pin", number),
            ("move", number, club),
            ("delete", number),
            ("delete_all", club),
            ("update_many", club),
            ("create_many", club),
            ("bulk_update", number),
            ("hide_many", rng.random() < 0.5),
            ("label", number, rng.choice(LABELS)),
            ("label_all", rng.choice(LABELS)),
            ("clear_labels", number),
            ("delete_label", number),
            ("open_club", rng.random() < 0.5),
            ("rename", club),
            ("hide", club),
            ("close_club", club),
            ("enter", club, user),
            ("exit", club, user),
            ("exit_all", user),
            ("promote", user),
            ("ban", user),
        ],
        [10, 12, 8, 6, 8, 2, 4, 4, 3, 2, 5, 2, 2, 2, 2, 3, 5, 2, 6, 6, 2, 4, 4],
    )[0]


def shortened(program: list[Step], fails: Callable[[list[Step]], bool], tries: int) -> list[Step]:
    """A shorter program that fails as well: less of its end, then without single steps."""
    for length in range(1, len(program)):
        tries -= 1
        if fails(program[:length]):
            program = program[:length]
            break
    position = len(program) - 1
    while position >= 0 and tries > 0:
        tries -= 1
        without = program[:position] + program[position + 1 :]
        if fails(without):
            program = without
        position -= 1
    return program
