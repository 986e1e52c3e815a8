"""Processes that take a line for a command, and answer each with a JSON object."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import IO, Any

# The longest answer.
MOST_BYTES = 1 << 26

Command = Callable[..., Awaitable[Any]]


class Child:
    """Such a process; one command at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turns = asyncio.Lock()

    async def ask(self, *command: object) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        async with self._turns:
            self._process.stdin.write(f"{' '.join(map(str, command))}\n".encode())
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The process ended when it was asked for {command}.")
        return json.loads(line)


@contextlib.asynccontextmanager
async def child(
    module: str,
    *arguments: object,
    log: IO[str],
    environment: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Child]:
    """Start `python -m module`, with `environment` added; kill it at the end."""
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", module, *map(str, arguments)],
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        limit=MOST_BYTES,
    )
    try:
        yield Child(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def answer_commands(commands: Mapping[str, Command]) -> None:
    """Answer the lines of the standard input until it ends."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    while words := (await lines.readline()).decode().split():
        print(json.dumps(await commands[words[0]](*words[1:])), flush=True)
