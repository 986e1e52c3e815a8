"""
Ten thousand frames, structured and raw, on uvicorn and on daphne, and a tenth of them on each other
server: every one answered, in order, and clean.

`FUZZ_FRAMES=100000 pytest tests/whole/test_fuzz.py` sends more. The expected answer is known from
how it was made: an id of its own to be echoed, null where it has none that can be read, or
anything.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import re
import string
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.server_processes import KINDS, Server

FRAMES = int(os.environ.get("FUZZ_FRAMES", "10000"))
# The servers with all of them: what differs from server to server shows soon.
WITH_ALL = {"uvicorn", "daphne"}
WINDOW = 16  # MAX_IN_FLIGHT: one more would rightly be answered 503.
UNLIMITED = {"FRAME_RATE": 10**6, "FRAME_BURST": 10**6}

ANYTHING = object()

STREAMS = ["rooms", "messages", "tags", "documents"]
ACTIONS = [
    "list", "retrieve", "create", "update", "partial_update", "patch", "destroy", "delete",
    "metadata", "echo", "parts", "later", "authenticate",
]  # fmt: skip
NO_ACTIONS = [
    "_private", "__init__", "__class__", "__dict__", "dispatch", "initial", "as_view", "get",
    "post", "options", "get_queryset", "queryset", "perform_create", "check_permissions",
    "handle_exception", "authenticate_socket", "serializer_class", "LIST", " list", "list\u0000",
    "subscribe.", "../list", "d\u00e9truire", "\U0001f4a5",
]  # fmt: skip
KEYS = ["action", "request_id", "pk", "data", "query", "headers", "method"]
HOSTILE_KEYS = [
    "self", "cls", "scope", "queryset", "request", "__class__", "__init__", "args", "kwargs",
    "view", "action_map", "format", "format_kwarg", "lookup_field", "consumer", "message",
    "stream", "payload", "user", "basename", "detail", "suffix", "id", "name", "limit", "offset",
    "cursor", "search", "ordering", "", " ", "\u0000", "a.b", "a__b", "id__in", "\U0001f4a5",
]  # fmt: skip
EDGES = [
    None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400, 0.5, -0.0, 1e308,
    "", " ", "1", "0", "-1", "lobby", "\u0000", "a\u0000b", "\u202e", "\ufeff", "\U0001f4a5",
    "e\u0301", "'; --", "%s%n", "{0.__class__}", "../..", "1/../2", "x" * 300, "9" * 5000, [], {},
    [[]], [None], {"": ""}, {"name": "attic"}, {"name": None}, {"room": 1, "text": "hi"},
    {"request_id": 1}, {"authorization": "Basic !"}, {"authorization": "Token x"},
    {"authorization": "\u2603"}, {"limit": [1, 2]}, {"limit": "x"}, {"format": "xml"},
    {"accept": "text/html"}, {"accept": "application/xml"}, {"accept-language": "\u00e4"},
    {"name": "\u0000"}, {"cursor": "\u0000"}, {"ordering": "-id,__class__"}, {"search": "\u0000"},
]  # fmt: skip
NOT_JSON = [
    "", " ", "{", "}", "[", "]", '"', "nul", "NaN", "Infinity", "-Infinity", "1e999", "-1e999",
    "01", "+1", "1.", ".5", "0x1", "'a'", "{'a': 1}", '{"a" 1}', '{"a": 1,}', "[1,]", "// a",
    '{"action": "list", "action": "list"}', '{"a": {"b": 1, "b": 2}}', '"\\ud800"',
    '{"action": "\\udfff"}', '{"\\ud83d": 1}', '"\\x41"', '"\t"', "\ufeff{}", "\u00a0{}",
    "1" * 5000, '{"pk": ' + "9" * 6000 + "}", "[" * 33 + "]" * 33, "[" * 20_000,
    '{"a":' * 5000 + "1" + "}" * 5000, "x" * 60_000, '{"action": NaN}', "{} {}", '{}"',
]  # fmt: skip
NO_FRAMES = ["null", "true", "0", "-1.5", '"list"', "[]", "[[]]", "[{}]", "{}", '{"a": 1}']

# No reply may show these: tracebacks, SQL, Python's and this package's names.
LEAK = re.compile(
    r"Traceback|File \\?\"|, line \d|SELECT |INSERT |UPDATE \"|DELETE FROM|tests_room|sqlite|"
    r"<class|object at 0x|NoneType|django\.|rest_framework|rest_channels|ViewSet|Serializer|"
    r"Error\b|Exception|Python|_private\(|asyncio"
)

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Sent:
    """A message to send: text, bytes or fragments; and whose reply it gets, with which id."""

    message: Any
    request_id: Any = None
    stream: Any = None
    is_cancel: bool = False
    is_405: bool = False


def framed(payload: dict[str, Any], stream: str | None, **known: Any) -> Sent:
    """`payload` with an id of its own, for the root socket where a stream is given."""
    number = next(_numbers)
    request_id = payload["request_id"] = number if number % 2 else f"r{number}"
    value = payload if stream is None else {"stream": stream, "payload": payload}
    is_cancel = payload.get("action") == "cancel"
    return Sent(json.dumps(value), request_id, stream, is_cancel, **known)


class Grammar:
    """Makes messages out of a random generator."""

    def __init__(self, rng: random.Random, *, is_root: bool) -> None:
        self.rng = rng
        self.is_root = is_root

    def message(self) -> Sent:
        makers = [
            self.plausible, self.plausible, self.plausible, self.hostile, self.no_action,
            self.bad_id, self.bad_action, self.no_json, self.no_frame, self.truncated,
            self.mutated, self.random_text, self.binary, self.fragmented, self.unknown_stream,
            self.cancel, self.too_long,
        ]  # fmt: skip
        return self.rng.choice(makers)()

    def stream(self) -> str | None:
        return self.rng.choice(STREAMS) if self.is_root else None

    def value(self) -> Any:
        value = self.rng.choice(EDGES)
        if isinstance(value, (dict, list)) and self.rng.random() < 0.2:
            for _ in range(self.rng.randrange(40)):
                value = [value] if self.rng.random() < 0.5 else {"a": value}
        return value

    def payload(self) -> dict[str, Any]:
        payload = {"action": self.rng.choice(ACTIONS), "data": {"name": self.word()}}
        if self.rng.random() < 0.7:
            payload["pk"] = self.rng.choice([1, 2, "1", "lobby", 99])
        return payload

    def plausible(self) -> Sent:
        """One key of a right frame has a value of any type."""
        payload = self.payload()
        payload[self.rng.choice(["pk", "data", "query", "headers", "method"])] = self.value()
        return self.within_depth(payload)

    def hostile(self) -> Sent:
        payload = self.payload()
        for key in self.rng.sample(HOSTILE_KEYS, 5):
            payload[key] = self.value()
        return self.within_depth(payload)

    def within_depth(self, payload: dict[str, Any]) -> Sent:
        """Too deep, a frame is not read at all, and its id is not known."""
        sent = framed(payload, self.stream())
        if _depth(json.loads(sent.message)) > 32:
            return Sent(sent.message)
        # Integers of over 4,300 digits are none of JSON's as Python reads it.
        return sent

    def no_action(self) -> Sent:
        payload = {**self.payload(), "action": self.rng.choice(NO_ACTIONS)}
        return framed(payload, self.stream(), is_405=True)

    def cancel(self) -> Sent:
        """Perhaps of a frame before it, which is answered with 499 then, still in its turn."""
        before = next(_numbers) - self.rng.randrange(1, 20)
        named = {"request_id": self.rng.choice([before, f"r{before}", *EDGES])}
        data = self.rng.choice([named, named, *EDGES])
        return framed({"action": "cancel", "data": data}, self.stream())

    def bad_id(self) -> Sent:
        bad = [True, 1.5, [], {}, "x" * 129, 10**400, [1], {"a": 1}]
        payload = {**self.payload(), "request_id": self.rng.choice(bad)}
        return self.unidentified(payload)

    def bad_action(self) -> Sent:
        bad = [None, True, 1, 1.5, [], {}, "", "x" * 129, ["list"]]
        return framed({**self.payload(), "action": self.rng.choice(bad)}, self.stream())

    def too_long(self) -> Sent:
        """Only subscriptions may be so long, and only by the rows that they name."""
        payload, length = self.payload(), self.rng.randrange(2**16, 2**17)
        long = [[self.value()] * (length // 8), "x" * length, {"a": ["]}" * 8] * (length // 16)}]
        payload[self.rng.choice(["data", "held", "held_ranges", "x"])] = self.rng.choice(long)
        text = framed(payload, self.stream()).message
        # A frame above the longest length closes the socket; the id of some cannot be read.
        return Sent(text, ANYTHING) if len(text) < 640_000 else self.plausible()

    def no_json(self) -> Sent:
        return Sent(self.rng.choice(NOT_JSON))

    def no_frame(self) -> Sent:
        value = json.loads(self.rng.choice(NO_FRAMES))
        return self.unidentified(value) if self.rng.random() < 0.5 else Sent(json.dumps(value))

    def truncated(self) -> Sent:
        whole = framed(self.payload(), self.stream()).message
        return Sent(whole[: self.rng.randrange(len(whole))])

    def mutated(self) -> Sent:
        text = list(self.unidentified({**self.payload(), "action": "list"}).message)
        for _ in range(self.rng.randrange(1, 4)):
            text[self.rng.randrange(len(text))] = self.rng.choice(string.printable)
        return Sent("".join(text), ANYTHING)

    def random_text(self) -> Sent:
        planes = [range(32, 127), range(0x20), range(0xA0, 0x2FF), range(0x1F300, 0x1F600)]
        length = self.rng.randrange(200)
        return Sent("".join(chr(self.rng.choice(self.rng.choice(planes))) for _ in range(length)))

    def binary(self) -> Sent:
        right = framed(self.payload(), self.stream()).message.encode()
        return Sent(self.rng.choice([b"", b"\x00\xff", right, self.rng.randbytes(100)]))

    def fragmented(self) -> Sent:
        sent = framed(self.payload(), self.stream())
        cuts = sorted(self.rng.randrange(len(sent.message)) for _ in range(3))
        parts = [sent.message[a:b] for a, b in itertools.pairwise([0, *cuts, len(sent.message)])]
        return Sent(parts, sent.request_id, sent.stream, sent.is_cancel)

    def unknown_stream(self) -> Sent:
        if not self.is_root:
            return self.no_frame()
        return framed(
            self.payload(), self.rng.choice(["", "room", "rooms/", "__class__", "\u0000"])
        )

    def unidentified(self, payload: Any) -> Sent:
        stream = self.stream()
        value = payload if stream is None else {"stream": stream, "payload": payload}
        return Sent(json.dumps(value))

    def word(self) -> str:
        return "".join(self.rng.choices(string.ascii_lowercase, k=6))


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


# What every answer must be


def check(window: list[Sent], replies: list[dict[str, Any]], *, is_root: bool) -> None:
    """Each message of `window` has its one reply, and in order."""
    payloads = [reply["payload"] if is_root else reply for reply in replies]
    assert len(replies) == len(window)
    if not is_root:
        in_turn = [p["request_id"] for p in payloads if p["action"] != "cancel"]
        expected = [sent.request_id for sent in window if not sent.is_cancel]
        assert len(in_turn) == len(expected)
        for got, wanted in zip(in_turn, expected, strict=True):
            assert wanted is ANYTHING or (type(got), got) == (type(wanted), wanted)
    for stream in {sent.stream for sent in window} - {None}:
        asked = [s.request_id for s in window if s.stream == stream and not s.is_cancel]
        answered = [
            reply["payload"]["request_id"]
            for reply in replies
            if reply["stream"] == stream and reply["payload"]["request_id"] in asked
        ]
        assert answered == asked
    by_id = {payload["request_id"]: payload for payload in payloads}
    assert all(sent.request_id in by_id for sent in window if sent.is_cancel)
    for sent in window:
        if sent.is_405:
            assert by_id[sent.request_id]["response_status"] in (404, 405)


def check_reply(text: str, sent: list[Sent], *, is_root: bool) -> dict[str, Any]:
    """`text` has the shape of a reply, is strict JSON, and shows nothing of the inside."""
    # The client's own words may come back.
    shown = [leak for leak in LEAK.findall(text) if leak not in str([s.message for s in sent])]
    assert not shown, text
    reply = json.loads(text, parse_constant=pytest.fail)
    if is_root:
        assert reply.keys() == {"stream", "payload"}
    payload = reply["payload"] if is_root else reply
    required = {"errors", "data", "action", "response_status", "request_id"}
    assert required <= payload.keys() <= required | {"codes", "headers", "hints"}
    status = payload["response_status"]
    assert 200 <= status < 500, text
    assert bool(payload["errors"]) is (status >= 400)
    return reply


def is_last(reply: dict[str, Any]) -> bool:
    return reply.get("payload", reply)["response_status"] != 206


async def converse(server: Server, path: str, messages: list[Sent]) -> None:
    """Send `messages` over one socket, as many at a time as may be in flight."""
    is_root = path == "/"
    async with server.connect_async(path) as socket:
        for start in range(0, len(messages), WINDOW):
            window = messages[start : start + WINDOW]
            for sent in window:
                await socket.send(sent.message)
            replies: list[dict[str, Any]] = []
            while len(replies) < len(window):
                text = await asyncio.wait_for(socket.recv(), 20)
                reply = check_reply(text, window, is_root=is_root)
                replies += [reply] if is_last(reply) else []
            check(window, replies, is_root=is_root)


@pytest.fixture(scope="module", params=KINDS)
def server(request):
    with Server(request.param, **UNLIMITED) as server:
        yield server
        assert server.is_running
        assert "Traceback" not in server.output, server.output[:5000]


def frames_for(server: Server) -> int:
    return FRAMES if server.kind in WITH_ALL else FRAMES // 10


@pytest.mark.timeout(300)
def test_random_frames(server):
    """On two root sockets and two of a viewset's own, side by side."""
    seed = random.randrange(2**32)
    print(f"Seed of the frames: {seed}")
    rng = random.Random(seed)
    each = frames_for(server) // 5

    async def all_of_them():
        async with asyncio.TaskGroup() as group:
            for path in ["/", "/", "/rooms/", "/rooms/"]:
                grammar = Grammar(rng, is_root=path == "/")
                messages = [grammar.message() for _ in range(each)]
                group.create_task(converse(server, path, messages))

    before = server.rss_bytes
    asyncio.run(all_of_them())
    # Python's allocator keeps what it once had; nothing of 8,000 frames may stay beyond that.
    assert server.rss_bytes - before < 64 * 2**20


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalar = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
json_value = st.recursive(
    scalar | st.sampled_from(EDGES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
payloads = st.builds(
    lambda action, known, unknown: {**unknown, **known, "action": action},
    st.sampled_from(ACTIONS + NO_ACTIONS) | text.filter(bool),
    st.dictionaries(st.sampled_from(KEYS[2:]), json_value, max_size=4),
    st.dictionaries(st.sampled_from(HOSTILE_KEYS) | text, json_value, max_size=3),
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", ["/", "/rooms/"])
def test_frames_of_any_values(server, path):
    is_root = path == "/"
    per_example = 5

    @settings(
        max_examples=max(1, frames_for(server) // 10 // per_example),
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(payloads, min_size=per_example, max_size=per_example))
    def every_frame_is_answered(values):
        messages = [framed(dict(value), "rooms" if is_root else None) for value in values]
        conversation.send_and_check(messages)

    with Conversation(server, path) as conversation:
        every_frame_is_answered()


class Conversation:
    """One socket for all examples, a new one after an example that failed."""

    def __init__(self, server: Server, path: str) -> None:
        self.server, self.path = server, path
        self.is_root = path == "/"
        self.exits = ExitStack()

    def __enter__(self) -> Conversation:
        self.socket = self.exits.enter_context(self.server.connect(self.path))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.exits.close()

    def send_and_check(self, messages: list[Sent]) -> None:
        try:
            for sent in messages:
                self.socket.send(sent.message)
            replies: list[dict[str, Any]] = []
            while len(replies) < len(messages):
                reply = check_reply(self.socket.recv(20), messages, is_root=self.is_root)
                replies += [reply] if is_last(reply) else []
            check(messages, replies, is_root=self.is_root)
        except BaseException:
            self.__exit__()
            self.__enter__()
            raise
