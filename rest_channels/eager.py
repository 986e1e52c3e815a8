"""
Coroutines begun at once: a task is made only of what has to wait.

Most messages can be handed to the server at once; to make a task for each, and have the loop
come round to it, costs more than the sending.
"""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final

# Servers' own `send`, by the modules of the objects whose method it is. They wait for events and
# locks, and never ask which task they are in.
_SERVERS: Final = ("uvicorn.protocols.websockets.", "rest_channels.daphne")


def is_servers_own(send: Callable[..., Any]) -> bool:
    """
    Whether `send` is a server's, with nothing in between: middleware may be using
    `asyncio.timeout` or the like, which binds to the current task.
    """
    owner = getattr(send, "__self__", send)
    # Channels' session middleware, which hands on what is no handshake.
    while (inner := getattr(owner, "real_send", None)) is not None:
        owner = getattr(inner, "__self__", inner)
    return type(owner).__module__.startswith(_SERVERS)


def start(coroutine: Coroutine[Any, Any, None], *, is_plain: bool) -> asyncio.Task[None] | None:
    """
    Run `coroutine` until it waits for something; returns the task in which it goes on, None where
    it has ended. On the loop.

    Before Python 3.12 only where it `is_plain`: what runs before the first wait would take the
    caller's task for its own.
    """
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        task = asyncio.Task(coroutine, loop=loop, eager_start=True)
        return None if task.done() else task
    if not is_plain:
        return loop.create_task(coroutine)
    try:
        awaited = coroutine.send(None)
    except StopIteration:
        return None
    task = loop.create_task(going_on(coroutine, awaited))
    # Cancelled before its first step, a task never enters what it was made of.
    task.add_done_callback(lambda _: coroutine.close())
    return task


async def going_on(coroutine: Any, awaited: Any) -> None:
    """What is left of `coroutine`, whose first step has given `awaited` to wait for."""
    await _rest(coroutine, awaited)


@types.coroutine
def _rest(coroutine: Coroutine[Any, Any, None], awaited: Any) -> Generator[Any, Any, None]:
    """What is left of `coroutine`, which waits for `awaited`."""
    resume: Callable[[Any], Any]
    while True:
        try:
            given = yield awaited
        except BaseException as exc:
            resume, given = coroutine.throw, exc
        else:
            resume = coroutine.send
        try:
            awaited = resume(given)
        except StopIteration:
            return
