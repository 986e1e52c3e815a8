"""
Track the parts of a request that a permission, queryset or serializer reads.

Code that never reads the user returns the same result for all users. So the requests of reviews
record reads. A read counts unless it is known to be harmless: `HARMLESS` are the parts that all
subscribers of a shared result have in common, because their topics have the same `place`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from rest_framework.request import Request
from rest_framework.response import Response

from rest_channels.live.interface import Shown
from rest_channels.protocol import Frame
from rest_channels.sockets.request import Call, FrameRequest, Handshake, MessageRequest

#: The result depends on the user: all sockets of this user can share it.
USER: Final = "user"
#: The result depends on another part of the socket, which cannot share it.
SOCKET: Final = "socket"

HARMLESS: Final = frozenset(
    {
        *["method", "path", "path_info", "scheme", "query_params", "GET"],
        *["accepted_renderer", "accepted_media_type", "version", "versioning_scheme"],
        *["build_absolute_uri", "get_host", "get_port", "get_full_path", "get_full_path_info"],
        *["is_secure", "call", "_request"],
        # Attributes that Python itself reads from any object.
        *["__class__", "__getattribute__", "__getattr__", "__doc__", "__module__"],
    }
)

_FRAMEWORKS: Final = ("rest_channels", "rest_framework", "django")
_MOST_PLACES: Final = 8

_OF_USER: Final = frozenset({"user", "_user", "auser"})


class _Watched:
    """A request that records in `reads` which parts are read, once `watch` has given it a set."""

    def __getattribute__(self, name: str) -> Any:
        state = object.__getattribute__(self, "__dict__")
        reads = state.get("_reads")
        if reads is None:
            return super().__getattribute__(name)
        if name not in HARMLESS:
            reads.add(USER if name in _OF_USER else SOCKET)
        # Reads within this access do not count.
        state["_reads"] = None
        try:
            return super().__getattribute__(name)
        finally:
            state["_reads"] = reads


#: The places that read a request, by the part that they read.
Places = dict[str, list[str]]

# For a person who looks for them: reviews themselves only need to know which parts were read.
_places: ContextVar[Places | None] = ContextVar("rest_channels.places", default=None)


class _PlacedReads(set[str]):
    """Reads that note the places that read."""

    def __init__(self, places: Places) -> None:
        super().__init__()
        self._places = places

    def add(self, name: str) -> None:
        super().add(name)
        place = _place_of_reader()
        known = self._places.setdefault(name, [])
        if place is not None and place not in known and len(known) < _MOST_PLACES:
            known.append(place)


def _new_reads() -> set[str]:
    places = _places.get()
    return set() if places is None else _PlacedReads(places)


def _place_of_reader() -> str | None:
    """Return the place that reads, in the project if possible; None if it is of no interest."""
    found = None
    for frame, line in traceback.walk_stack(None):
        module, name = str(frame.f_globals.get("__name__")), frame.f_code.co_qualname
        package = module.partition(".")[0]
        if name == "APIView.perform_authentication":
            # DRF always reads the user there, whatever the answer.
            return None
        is_project = package not in _FRAMEWORKS
        is_candidate = package == "rest_framework" and module != "rest_framework.views"
        if is_project or (is_candidate and found is None):
            found = f"{module}:{line} in {name}"
        if is_project or name == "review":
            break
    return found


@contextmanager
def placing_reads() -> Iterator[Places]:
    """Yield a dictionary of the places that read requests within this context."""
    places: Places = {}
    token = _places.set(places)
    try:
        yield places
    finally:
        _places.reset(token)


class WatchedMessageRequest(_Watched, MessageRequest):
    """
    The Django request of a review.

    It calls `on_shown` with what the view shows, and keeps that in `shown`. Both happen within
    DRF's dispatch, which offers no other way out before it renders the response.
    """

    shown: Shown | None = None

    def __init__(
        self, handshake: Handshake, frame: Frame, call: Call, on_shown: Callable[[Shown], None]
    ) -> None:
        super().__init__(handshake, frame, call)
        self._on_shown = on_shown

    def tell(self, shown: Shown) -> None:
        """Pass on what the view shows; call it `unwatched`."""
        self.shown = shown
        self._on_shown(shown)

    # A method is called after it is read, and the call must not record reads either.

    def build_absolute_uri(self, location: Any = None) -> Any:
        with unwatched(self):
            return super().build_absolute_uri(location)

    def get_host(self) -> str:
        with unwatched(self):
            host: str = super().get_host()
        return host

    def get_port(self) -> str:
        with unwatched(self):
            port: str = super().get_port()
        return port

    def get_full_path(self, force_append_slash: bool = False) -> str:
        with unwatched(self):
            path: str = super().get_full_path(force_append_slash)
        return path

    def get_full_path_info(self, force_append_slash: bool = False) -> str:
        with unwatched(self):
            path: str = super().get_full_path_info(force_append_slash)
        return path

    def is_secure(self) -> bool:
        with unwatched(self):
            is_secure: bool = super().is_secure()
        return is_secure


class RunRequest(WatchedMessageRequest):
    """
    The Django request of a run of a watched action.

    It calls `on_body` with the view and its handler as DRF calls the handler, when all checks are
    over; if that returns a response, the handler is not called. `checking` are the parts of the
    request that were read before.
    """

    def __init__(
        self,
        handshake: Handshake,
        frame: Frame,
        call: Call,
        on_body: Callable[[Any, Any], Response | None],
    ) -> None:
        super().__init__(handshake, frame, call, _shows_nothing)
        self._on_body = on_body
        self.checking: frozenset[str] = frozenset()

    def enter_body(self, view: Any, handler: Any, checking: frozenset[str]) -> Response | None:
        """Take what the checks have read, before the handler is called; call it `unwatched`."""
        self.checking = checking
        return self._on_body(view, handler)


def _shows_nothing(shown: Shown) -> None:
    """Ignore rows that an action shows to a subscription, because nobody subscribes."""


class WatchedRequest(_Watched, FrameRequest):
    """DRF's request of a review."""


@contextmanager
def unwatched(request: Any) -> Iterator[None]:
    """Record no reads of `request` within this context."""
    state = object.__getattribute__(request, "__dict__")
    reads, state["_reads"] = state.get("_reads"), None
    try:
        yield
    finally:
        state["_reads"] = reads


@contextmanager
def untracked(request: Request) -> Iterator[None]:
    """Record no reads of DRF's `request`, nor of the Django request behind it."""
    if not isinstance(request, WatchedRequest):
        yield
        return
    http_request = object.__getattribute__(request, "__dict__")["_request"]
    with unwatched(request), unwatched(http_request):
        yield


def tell_shown(request: Any, shown: Shown) -> None:
    """Pass what its view shows to the review of DRF's `request`, if it belongs to one."""
    http_request = getattr(request, "_request", None)
    if isinstance(http_request, WatchedMessageRequest):
        with unwatched(http_request):
            http_request.tell(shown)


def run_body(
    http_request: RunRequest, view: Any, handler: Any, request: Request, *args: Any, **kwargs: Any
) -> Any:
    """
    Call `handler` of a watched action's run, after all checks; in its place, so DRF calls this.

    Everything before belongs to the checks, also what a viewset's own `initial()` does.
    """
    reads = reads_of(request)
    with unwatched(request), unwatched(http_request):
        response = http_request.enter_body(view, handler, frozenset(reads))
    # Reads from here on are recorded apart.
    watch(request)
    return handler(request, *args, **kwargs) if response is None else response


def watch(request: Request) -> None:
    """Start to record the reads of DRF's `request` and of the Django request behind it."""
    reads = _new_reads()
    for watched in (request, request._request):
        object.__getattribute__(watched, "__dict__")["_reads"] = reads


def end_watch(http_request: WatchedMessageRequest) -> None:
    """Record no more reads of a Django request, nor of DRF's request around it."""
    drf_request = getattr(http_request.view, "request", None)
    for watched in (http_request, drf_request):
        if isinstance(watched, _Watched):
            object.__getattribute__(watched, "__dict__")["_reads"] = None


def reads_of(request: Request) -> set[str]:
    """Return the reads recorded so far."""
    return object.__getattribute__(request, "__dict__").get("_reads") or set()


@contextmanager
def reading(request: Request) -> Iterator[set[str]]:
    """Yield a set that collects the reads of `request` within this context."""
    before = reads_of(request)
    reads: set[str] = set()
    states = [object.__getattribute__(r, "__dict__") for r in (request, request._request)]
    for state in states:
        state["_reads"] = reads
    try:
        yield reads
    finally:
        for state in states:
            state["_reads"] = before
