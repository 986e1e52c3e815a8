"""
The worker's side: what serves a named channel under `manage.py runworker NAME`.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping, Sequence
from typing import Any

from rest_framework.exceptions import APIException

from rest_channels.consumers.base import Consumers, Message, ReplyChannel, Table
from rest_channels.consumers.channels import Channel
from rest_channels.consumers.hub import send_to_socket
from rest_channels.consumers.layers import MESSAGE
from rest_channels.exceptions import ConsumerError
from rest_channels.protocol import Frame, Reply
from rest_channels.response import reply_to_crash, reply_to_exception
from rest_channels.settings import socket_settings
from rest_channels.threads import workers

logger = logging.getLogger("rest_channels")


class ChannelApplication:
    """
    The ASGI application of one channel: the first handler of `tables` that matches takes a message.

    Messages that come from the same address are served in their order, others side by side: as
    many as there are worker threads.
    """

    def __init__(self, channel: str, tables: Sequence[Table]) -> None:
        self.channel = channel
        self.tables = tables

    async def __call__(
        self, scope: Mapping[str, Any], receive: Callable[[], Awaitable[Any]], send: Any
    ) -> None:
        turns = Turns(self.serve, self.refuse)
        while True:
            await turns.take(await receive())

    async def serve(self, message: Mapping[str, Any]) -> None:
        """Serve one message of the layer's: nothing that it holds or does ends the worker."""
        if (delivery := self._delivery(message)) is not None:
            await delivery.serve(self.tables)

    async def refuse(self, message: Mapping[str, Any]) -> None:
        """Tell its sender that too many of their messages wait already."""
        if (delivery := self._delivery(message)) is not None:
            await delivery.fail(
                ConsumerError("Too many in flight.", status=503, code="too_many_in_flight")
            )

    def _delivery(self, message: Mapping[str, Any]) -> Delivery | None:
        try:
            return Delivery(self.channel, message)
        except (KeyError, ValueError, TypeError):
            logger.error("Not a message for %r: send with Channel(name).send().", self.channel)
            return None


Work = Callable[[Mapping[str, Any]], Awaitable[None]]


class Turns:
    """
    Messages of many senders: one of each at a time, and of all as many as there are threads.

    What waits for its sender's turn keeps no other sender waiting. There are at most
    `MAX_IN_FLIGHT` of a sender's, as of a socket's; the next is refused.
    """

    def __init__(self, serve: Work, refuse: Work) -> None:
        self._serve = serve
        self._refuse = refuse
        self._room = asyncio.Semaphore(socket_settings.WORKER_THREADS)
        #: What waits of those who are being served.
        self._waiting: dict[Any, deque[Mapping[str, Any]]] = {}
        # The loop keeps only weak references to its tasks.
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, message: Mapping[str, Any]) -> None:
        """Serve `message` in its turn. Waits while there is no thread for another sender."""
        address = message.get("reply_channel")
        # Who has no address is nobody's successor.
        sender = address if isinstance(address, str) else object()
        waiting = self._waiting.get(sender)
        if waiting is None:
            await self._room.acquire()
            self._waiting[sender] = deque()
            self._start(self._serve_all(sender, message))
        elif len(waiting) < socket_settings.MAX_IN_FLIGHT:
            waiting.append(message)
        else:
            await self._refuse(message)

    async def _serve_all(self, sender: Any, message: Mapping[str, Any]) -> None:
        waiting = self._waiting[sender]
        try:
            while True:
                try:
                    await self._serve(message)
                finally:
                    self._room.release()
                if not waiting:
                    return
                message = waiting.popleft()
                # Behind whoever waits for a thread.
                await self._room.acquire()
        finally:
            del self._waiting[sender]

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Delivery:
    """One message of a channel, on its way through a handler; the outlet of its replies."""

    def __init__(self, channel: str, message: Mapping[str, Any]) -> None:
        """Raises KeyError, ValueError or TypeError for what `Channel.send` has not sent."""
        if message["type"] != MESSAGE:
            raise ValueError(message["type"])
        self.channel = channel
        self.content = json.loads(message["content"])
        self.kwargs = json.loads(message["kwargs"])
        origin = json.loads(message.get("origin", "{}"))
        self.user_pk = origin.get("user")
        self.session_key = origin.get("session")
        self.is_last = False
        self.address: Any = message.get("reply_channel")
        self.owner: Hashable = ("address", self.address) if self.address else None
        self._loop = asyncio.get_running_loop()
        self._said: asyncio.Queue[str | None] = asyncio.Queue()

    def say(self, text: str) -> None:
        if self.address is None:
            raise ConsumerError("There is nobody to reply to: the message names no reply channel.")
        self._loop.call_soon_threadsafe(self._said.put_nowait, text)

    async def serve(self, tables: Sequence[Table]) -> None:
        """Find the handler, run it, and send what it says."""
        sending = asyncio.ensure_future(self._send())
        try:
            await self._handle(tables)
        except Exception as exc:
            self._answer(exc)
        finally:
            self._end()
            await sending

    async def fail(self, exc: Exception) -> None:
        """Send what `exc` is answered with, and do nothing."""
        self._answer(exc)
        self._end()
        await self._send()

    def _end(self) -> None:
        # In its turn, behind what was said.
        self._loop.call_soon(self._said.put_nowait, None)

    async def _handle(self, tables: Sequence[Table]) -> None:
        table = next((t for t in tables if t.find(self.content, self.channel)), tables[0])
        instance = self._instance(table.consumers)
        remaining = await workers.run(instance.run, instance.dispatch, owner=self.owner)
        if inspect.isawaitable(remaining):
            await remaining

    def _instance(self, consumers: type[Consumers]) -> Consumers:
        message = Message(self.content, Channel(self.channel), ReplyChannel(self))
        return consumers(message, self.kwargs, self)

    def _answer(self, exc: Exception) -> None:
        reply = error_reply(read_asked(self.content), exc)
        if self.address is not None:
            self.say(reply.encode())
        elif reply.status < 500:
            # What failed has been logged already.
            logger.warning("A message on %r was refused: %s", self.channel, exc)

    async def _send(self) -> None:
        while (text := await self._said.get()) is not None:
            assert self.address is not None
            try:
                await send_to_socket(self.address, text)
            except ConsumerError:
                # Logged where it was raised; the handler's work is done and stays done.
                continue


def read_asked(content: Any) -> Frame:
    """What an error about `content` has to echo."""
    asked = content if isinstance(content, dict) else {}
    request_id, action = asked.get("request_id"), asked.get("action")
    is_id = isinstance(request_id, (str, int)) and not isinstance(request_id, bool)
    return Frame(action if isinstance(action, str) else None, request_id if is_id else None)


def error_reply(asked: Frame, exc: Exception) -> Reply:
    """The reply to what a handler raised and `at_exception` did not deal with."""
    if isinstance(exc, ConsumerError):
        return Reply.error(exc.status, exc.detail, exc.code, to=asked)
    if isinstance(exc, APIException):
        return reply_to_exception(asked, exc)
    return reply_to_crash(asked, None, exc)
