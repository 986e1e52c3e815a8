"""
Which results may be shared: what a permission, queryset or serializer reads of a request.

Code that never looks at the user gives the same result to all users. So requests of reviews
note what is read of them. What is not known to be harmless counts as read: `HARMLESS` is what
every subscriber of a shared result has in common, by the `place` of their topic.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from rest_framework.request import Request

from rest_channels.request import MessageRequest

#: The result depends on the user: it is right for all sockets of the same user.
USER: Final = "user"
#: The result depends on something else of the socket: it is right for that one alone.
SOCKET: Final = "socket"

HARMLESS: Final = frozenset(
    {
        *["method", "path", "path_info", "scheme", "query_params", "GET"],
        *["accepted_renderer", "accepted_media_type", "version", "versioning_scheme"],
        *["build_absolute_uri", "get_host", "get_port", "get_full_path", "get_full_path_info"],
        *["is_secure", "call", "_request"],
        # What Python asks of any object.
        *["__class__", "__getattribute__", "__getattr__", "__doc__", "__module__"],
    }
)

_OF_USER: Final = frozenset({"user", "_user", "auser"})


class _Watched:
    """A request that notes in `reads` what is read of it, once `watch` has given it a set."""

    def __getattribute__(self, name: str) -> Any:
        state = object.__getattribute__(self, "__dict__")
        reads = state.get("_reads")
        if reads is None:
            return super().__getattribute__(name)
        if name not in HARMLESS:
            reads.add(USER if name in _OF_USER else SOCKET)
        # What it takes to answer is not what was asked for.
        state["_reads"] = None
        try:
            return super().__getattribute__(name)
        finally:
            state["_reads"] = reads


class WatchedMessageRequest(_Watched, MessageRequest):
    """The Django request of a review."""

    # Methods are called after they are read: each must be as blind as reading it.

    def build_absolute_uri(self, location: Any = None) -> Any:
        with unwatched(self):
            return super().build_absolute_uri(location)

    def get_host(self) -> str:
        with unwatched(self):
            return super().get_host()

    def get_port(self) -> str:
        with unwatched(self):
            return super().get_port()

    def get_full_path(self, force_append_slash: bool = False) -> str:
        with unwatched(self):
            return super().get_full_path(force_append_slash)

    def get_full_path_info(self, force_append_slash: bool = False) -> str:
        with unwatched(self):
            return super().get_full_path_info(force_append_slash)

    def is_secure(self) -> bool:
        with unwatched(self):
            return super().is_secure()


class WatchedRequest(_Watched, Request):
    """DRF's request of a review."""


@contextmanager
def unwatched(request: Any) -> Iterator[None]:
    """Note nothing meanwhile."""
    state = object.__getattribute__(request, "__dict__")
    reads, state["_reads"] = state.get("_reads"), None
    try:
        yield
    finally:
        state["_reads"] = reads


def watch(request: Request) -> None:
    """Note from now on what is read of DRF's `request` and of Django's behind it."""
    reads: set[str] = set()
    for watched in (request, request._request):
        object.__getattribute__(watched, "__dict__")["_reads"] = reads


def reads_of(request: Request) -> set[str]:
    """What was read of it, so far."""
    return object.__getattribute__(request, "__dict__").get("_reads") or set()


@contextmanager
def reading(request: Request) -> Iterator[set[str]]:
    """Give the set of what is read of `request` meanwhile."""
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
