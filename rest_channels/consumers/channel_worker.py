"""The worker of a named channel, under `manage.py runworker NAME`."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from rest_framework.exceptions import APIException

from rest_channels.bus.tasks import BackgroundTasks
from rest_channels.consumers.base import (
    Message,
    ReplyChannel,
    Table,
)
from rest_channels.consumers.channels import Channel
from rest_channels.consumers.groups.group_hub import send_to_socket
from rest_channels.consumers.groups.layers import MESSAGE
from rest_channels.consumers.outlets import ChannelOutlet
from rest_channels.exceptions import ConsumerError
from rest_channels.protocol import Frame, Reply
from rest_channels.settings import socket_settings
from rest_channels.sockets.response import reply_to_crash, reply_to_exception
from rest_channels.workers.threads import workers

logger = logging.getLogger("rest_channels")


class ChannelApplication:
    """
    The ASGI application of one channel: the first handler of `tables` that matches takes a message.

    Messages from the same address are served in their order, others side by side: as many as there
    are worker threads.
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
        """Serve one message of the layer's; no error of its content or handler ends the worker."""
        if (read := self._read(message)) is not None:
            await read.serve(self.tables)

    async def refuse(self, message: Mapping[str, Any]) -> None:
        """Tell its sender that too many of the sender's messages wait already."""
        if (read := self._read(message)) is not None:
            await read.fail(
                ConsumerError("Too many in flight.", status=503, code="too_many_in_flight")
            )

    def _read(self, message: Mapping[str, Any]) -> ChannelMessage | None:
        try:
            return ChannelMessage(self.channel, message)
        except (KeyError, ValueError, TypeError):
            logger.error("Not a message for %r: send with Channel(name).send().", self.channel)
            return None


Work = Callable[[Mapping[str, Any]], Awaitable[None]]


class Turns:
    """
    Messages of many senders, one of each at a time, at most as many as there are threads.

    A message that waits for its sender's turn delays no other sender. A sender may have at most
    `MAX_IN_FLIGHT` messages, as a socket may; the next is refused.
    """

    def __init__(self, serve: Work, refuse: Work) -> None:
        self._serve = serve
        self._refuse = refuse
        self._room = asyncio.Semaphore(socket_settings.WORKER_THREADS)
        #: The waiting messages of the senders being served.
        self._waiting: dict[Any, deque[Mapping[str, Any]]] = {}
        self._tasks = BackgroundTasks()

    async def take(self, message: Mapping[str, Any]) -> None:
        """Serve `message` in its turn. Waits while there is no thread for another sender."""
        address = message.get("reply_channel")
        # A sender without an address has no turn to wait for.
        sender = address if isinstance(address, str) else object()
        waiting = self._waiting.get(sender)
        if waiting is None:
            await self._room.acquire()
            self._waiting[sender] = deque()
            self._tasks.start(self._serve_all(sender, message))
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
                # Wait for a thread, behind other senders.
                await self._room.acquire()
        finally:
            del self._waiting[sender]


class ChannelMessage:
    """One message of a channel, on its way to a handler."""

    def __init__(self, channel: str, message: Mapping[str, Any]) -> None:
        """
        Read the message.

        Raises KeyError, ValueError or TypeError if `Channel.send` did not send it.
        """
        if message["type"] != MESSAGE:
            raise ValueError(message["type"])
        self._channel = channel
        self._content = json.loads(message["content"])
        self._kwargs = json.loads(message["kwargs"])
        origin = json.loads(message.get("origin", "{}"))
        self._outlet = ChannelOutlet(message.get("reply_channel"), origin)

    async def serve(self, tables: Sequence[Table]) -> None:
        """Find the handler, run it, and send its replies."""
        sending = asyncio.ensure_future(self._send())
        try:
            await self._handle(tables)
        except Exception as exc:
            self._answer(exc)
        finally:
            self._outlet.end()
            await sending

    async def fail(self, exc: Exception) -> None:
        """Send the answer to `exc`, without serving the message."""
        self._answer(exc)
        self._outlet.end()
        await self._send()

    async def _handle(self, tables: Sequence[Table]) -> None:
        table = next((t for t in tables if t.find(self._content, self._channel)), tables[0])
        message = Message(self._content, Channel(self._channel), ReplyChannel(self._outlet))
        instance = table.consumers(message, self._kwargs, self._outlet)
        self._outlet.instance = instance
        remaining = await workers.run(instance.run, instance.dispatch, owner=self._outlet.owner)
        if inspect.isawaitable(remaining):
            await remaining

    def _answer(self, exc: Exception) -> None:
        reply = error_reply(read_asked(self._content), exc)
        if self._outlet.address is not None:
            self._outlet.say(reply.encode())
        elif reply.status < 500:
            # Failures have been logged already.
            logger.warning("A message on %r was refused: %s", self._channel, exc)

    async def _send(self) -> None:
        while True:
            try:
                item = await self._outlet.next_item()
            except Exception as exc:
                # Its session could not be saved, so send an error in its place.
                item = error_reply(read_asked(self._content), exc).encode()
            if item is None:
                return
            try:
                await send_to_socket(self._outlet.address, str(item))
            except ConsumerError:
                # Logged where it was raised; the handler's work is not undone.
                continue


def read_asked(content: Any) -> Frame:
    """Return the ids that an error about `content` echoes."""
    asked = content if isinstance(content, dict) else {}
    request_id, action = asked.get("request_id"), asked.get("action")
    is_id = isinstance(request_id, (str, int)) and not isinstance(request_id, bool)
    return Frame(action if isinstance(action, str) else None, request_id if is_id else None)


def error_reply(asked: Frame, exc: Exception) -> Reply:
    """Return the reply to an exception of a handler that `at_exception` did not handle."""
    if isinstance(exc, ConsumerError):
        return Reply.error(exc.status, exc.detail, exc.code, to=asked)
    if isinstance(exc, APIException):
        return reply_to_exception(asked, exc)
    return reply_to_crash(asked, None, exc)
