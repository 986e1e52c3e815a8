"""The connection and its streams, as an application calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from rest_channels.client.answers import WatchOptions
from rest_channels.client.calls import Answer, Push, Pushed
from rest_channels.client.core import ClientCore
from rest_channels.client.handles import JoinedRoom, LiveRows, Watched
from rest_channels.client.incoming import Key
from rest_channels.client.line import ConnectionState
from rest_channels.client.lists import CREDIT, ListOptions
from rest_channels.client.network import WebsocketNetwork
from rest_channels.client.wire import PendingWrite
from rest_channels.protocol import MISSING

Query = Mapping[str, Any]
Headers = Mapping[str, str]
Lookups = Mapping[str, Key]


class Stream:
    """
    One stream of an API: a viewset, or a class of `RoomConsumers`.

    Any other method is an action of the viewset: `api.messages.pin(pk=3, data={...})`. A request
    raises `ApiError` if it is refused, and `ConnectionLost` if no answer arrives. `lookups` are
    values of the URL other than the row's key, `headers` those of this frame. To cancel the task
    that waits for a request cancels the request on the server, too.
    """

    def __init__(self, core: ClientCore, name: str, headers: Headers | None) -> None:
        self._core = core
        self._name = name
        self._headers = headers

    def __repr__(self) -> str:
        return f"<Stream {self._name!r}>"

    async def list(
        self,
        query: Query | None = None,
        *,
        lookups: Lookups | None = None,
        headers: Headers | None = None,
    ) -> Any:
        """Return the rows, or a page of them if the viewset has a paginator."""
        return await self._read("list", lookups, headers, query=query)

    async def retrieve(
        self, pk: Key, *, lookups: Lookups | None = None, headers: Headers | None = None
    ) -> Any:
        return await self._read("retrieve", lookups, headers, pk=pk)

    async def metadata(
        self,
        pk: Key | None = None,
        *,
        lookups: Lookups | None = None,
        headers: Headers | None = None,
    ) -> Any:
        """Return the description of a row's form, or of the collection's: OPTIONS of HTTP."""
        return await self._read("metadata", lookups, headers, pk=pk)

    async def create(
        self, data: Any, *, lookups: Lookups | None = None, headers: Headers | None = None
    ) -> Any:
        """
        Create a row, and return it.

        It happens once, also if the connection is lost before the answer arrives. Live lists show
        it when this returns.
        """
        return await self._write("create", lookups, headers, data=data)

    async def update(
        self, pk: Key, data: Any, *, lookups: Lookups | None = None, headers: Headers | None = None
    ) -> Any:
        return await self._write("update", lookups, headers, pk=pk, data=data)

    async def patch(
        self, pk: Key, data: Any, *, lookups: Lookups | None = None, headers: Headers | None = None
    ) -> Any:
        return await self._write("patch", lookups, headers, pk=pk, data=data)

    async def destroy(
        self, pk: Key, *, lookups: Lookups | None = None, headers: Headers | None = None
    ) -> Any:
        return await self._write("destroy", lookups, headers, pk=pk)

    async def authenticate(self, authorization: str) -> None:
        """
        Replace the credentials of the open socket: the value of an `Authorization` header.

        Call it before the former ones expire. They hold until the connection is lost: return the
        new ones from `auth`, too. Raises `ApiError`, and the former ones stay, if they are refused.
        """
        await self.action("authenticate", data={"authorization": authorization})

    def action(
        self,
        name: str,
        *,
        pk: Key | None = None,
        data: Any = MISSING,
        query: Query | None = None,
        method: str | None = None,
        lookups: Lookups | None = None,
        headers: Headers | None = None,
    ) -> Answer[Any]:
        """
        Call an action of the viewset, also one with the name of a method here.

        It is not repeated if the connection is lost, because the client does not know whether it
        reads only.
        """
        keys = _keys(lookups, headers or self._headers, pk=pk, query=query, method=method)
        payload = {**keys, "action": name, "data": data}
        return Answer(lambda: self._push(lambda *on: self._core.request(self._name, payload, *on)))

    def live(
        self,
        *,
        query: Query | None = None,
        window: int | None = None,
        pk: Key | None = None,
        credit: int = CREDIT,
        lookups: Lookups | None = None,
        headers: Headers | None = None,
    ) -> LiveRows[Any]:
        """
        Follow a list: all rows of `query`, the first ones of a `window`, or the row `pk`.

        Calls with the same `query` share one subscription. `credit` is the number of events that
        this program may be behind before the server merges them; 0 sets no bound.
        """
        headers = headers or self._headers
        options = ListOptions(query, window, pk, headers, lookups, credit)
        return LiveRows(self._core.follow_list(self._name, options), window)

    def watch(
        self,
        of: str,
        *,
        pk: Key | None = None,
        query: Query | None = None,
        lookups: Lookups | None = None,
        headers: Headers | None = None,
    ) -> Watched[Any]:
        """Keep the answer of an action that reads up to date."""
        options = WatchOptions(of, pk, query, headers or self._headers, lookups)
        return Watched(self._core.follow_answer(self._name, options))

    def join(self, room: Key) -> JoinedRoom:
        """Join a room of `RoomConsumers`."""
        name = str(room)

        async def say(data: Any) -> Any:
            payload = {"action": "send", "room": name, "data": data}
            return await self._data(lambda *on: self._core.request(self._name, payload, *on))

        return JoinedRoom(self._core.follow_room(self._name, name), say)

    def __getattr__(self, name: str) -> Callable[..., Answer[Any]]:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(**keys: Any) -> Answer[Any]:
            return self.action(name, **keys)

        return call

    async def _read(
        self, action: str, lookups: Lookups | None, headers: Headers | None, **given: Any
    ) -> Any:
        payload = {**_keys(lookups, headers or self._headers, **given), "action": action}
        return await self._data(
            lambda *on: self._core.request(self._name, payload, *on, repeat=True)
        )

    async def _write(
        self,
        action: str,
        lookups: Lookups | None,
        headers: Headers | None,
        data: Any = MISSING,
        **given: Any,
    ) -> Any:
        keys = _keys(lookups, headers or self._headers, **given)
        payload = {**keys, "action": action, "data": data}
        return await self._data(lambda *on: self._core.write(self._name, payload, *on))

    async def _data(self, push: Push) -> Any:
        return await self._push(push).data()

    def _push(self, push: Push) -> Pushed:
        return Pushed(self._core, self._name, push)


def _keys(lookups: Lookups | None, headers: Headers | None, **given: Any) -> dict[str, Any]:
    """Return keys of a payload, without those that are not given."""
    known = {**given, "headers": headers}
    return {**(lookups or {}), **{name: v for name, v in known.items() if v is not None}}


class Api:
    """
    A connection, whose streams are its attributes: made by `connect`, on the running event loop.

    As an asynchronous context manager it is closed at the end. It connects in the background, and
    again whenever the connection is lost; requests wait until then.
    """

    def __init__(
        self, core: ClientCore, network: WebsocketNetwork, headers: Headers | None
    ) -> None:
        self._core = core
        self._network = network
        self._headers = headers
        self._streams: dict[str, Stream] = {}

    def stream(self, name: str) -> Stream:
        """Return a stream, also one with the name of a method of this."""
        if name not in self._streams:
            self._streams[name] = Stream(self._core, name, self._headers)
        return self._streams[name]

    @property
    def state(self) -> ConnectionState:
        """The connection: its name, when it tries again, and the last close code."""
        return self._core.line.state

    @property
    def pending(self) -> list[PendingWrite]:
        """Writes without an answer: what is lost if the program ends now."""
        return self._core.wire.pending

    def subscribe(self, callback: Callable[[], Any]) -> Callable[[], None]:
        """Call `callback` when `state` or `pending` changes, until the result is called."""
        return self._core.line.observers.subscribe(callback)

    def reconnect(self) -> None:
        """Connect now, also after `signed-out` or `closed`."""
        self._core.line.reconnect()

    def close(self) -> None:
        """Close the connection for good; `wait_closed` waits for the end of the socket."""
        self._core.line.close()

    async def wait_closed(self) -> None:
        await self._network.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()
        await self.wait_closed()

    if not TYPE_CHECKING:
        # For type checkers, subclasses name the streams that they have.
        def __getattr__(self, name):
            if name.startswith("_"):
                raise AttributeError(name)
            return self.stream(name)


class AnyApi(Api):
    """A connection of which nothing is known: every stream, and every action of it, may exist."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Stream: ...
