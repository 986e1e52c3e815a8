"""
Does what a page of the documentation says, literally, as a reader at a terminal would.

The conventions of the pages, for readers as for this module:

    a block whose first line is `# chat/models.py`          is that file, whole
    a block whose first line is `# add to chat/models.py`   goes to the end of that file
    `$ command`                                             is typed; the rest is its output
    `$ python -m websockets ws://...`                       opens a socket: `>` sent, `<` received
    an indented line after `<`                              goes on with what is received
    `"x7Fq..."`                                             a position, long and random, shortened

The server is started by its command and started again when a file has changed since.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from websockets.sync.client import ClientConnection, connect

from tests.support import distribution
from tests.support.distribution import ROOT

# Its indent (within a tab or a list), language and text.
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of code: its language and its lines."""

    language: str
    lines: list[str]

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    @property
    def typed(self) -> list[str]:
        """The lines of a terminal; a message received is one of them, however many it takes."""
        entries: list[str] = []
        for line in self.lines:
            if line.startswith("  ") and entries and entries[-1].startswith("< "):
                entries[-1] += line
            else:
                entries.append(line)
        return entries


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of `page`, in order."""
    for _, language, text in FENCED.findall(page.read_text()):
        yield Block(language, textwrap.dedent(text).splitlines())


def assert_installable(requirement: str) -> None:
    """Assert that it is this distribution, with extras that it has."""
    name, extra = re.fullmatch(r"([\w-]+)\[(\w+)\]", requirement).groups()
    assert name == distribution.name()
    assert extra in distribution.extras()


class Walkthrough:
    """A reader's terminals and editor, in a directory of their own. A context manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._server_command: str | None = None
        self._server: subprocess.Popen[str] | None = None
        self._port: int | None = None
        self._socket: ClientConnection | None = None
        # As shown, without the dots, and as received.
        self._positions: dict[str, str] = {}
        self._exits = ExitStack()
        self._env = {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        del self._env["DJANGO_SETTINGS_MODULE"]

    def __enter__(self) -> Walkthrough:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop_server()

    def follow(self, page: Path) -> None:
        """Do what every block of `page` says. Raises AssertionError where it turns out untrue."""
        for block in blocks(page):
            if block.language == "console":
                self._type(block.typed)
            elif block.language == "python":
                self._write(block)

    def build(self, page: Path) -> None:
        """Make the project of `page`, as far as commands and files make it; serve nothing."""
        for block in blocks(page):
            if block.language == "python":
                self._write(block)
            for line in block.lines if block.language == "console" else ():
                if re.match(r"\$ (cd|django-admin startproject|python manage.py startapp) ", line):
                    self._command(line.removeprefix("$ "))

    def fetch(self, path: str) -> bytes:
        """Return the answer of the last command's server to a GET, which has to succeed."""
        if self._server is None:
            self._start_server()
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            client.request("GET", path, headers={"Host": f"localhost:{self._port}"})
            response = client.getresponse()
            assert response.status == 200, f"{path}: {response.status}"
            return response.read()
        finally:
            client.close()

    def _write(self, block: Block) -> None:
        named = re.fullmatch(r"# (add to )?([\w/]+\.py)", block.lines[0])
        assert named, f"The block names no file in its first line: {block.lines[0]!r}"
        path = self.directory / named[2]
        if named[1]:
            path.write_text(path.read_text() + "\n" + block.text)
        else:
            path.write_text(block.text)
        self._stop_server()

    def _type(self, lines: list[str]) -> None:
        output = ""
        for line in lines:
            if line.startswith("$ "):
                output = self._command(line[2:])
            elif line.startswith("> "):
                self._socket.send(self._with_positions(line[2:]))
            elif line.startswith("< "):
                answer = self._receive()
                self._learn_position(answer, line[2:])
                assert json.loads(answer) == json.loads(self._with_positions(line[2:])), (
                    f"received:\n{answer}\nshown:\n{line[2:]}"
                )
            else:
                assert line in output.splitlines(), f"{line!r} is not in the output:\n{output}"

    def _command(self, command: str) -> str:
        words = shlex.split(command)
        if words[:2] == ["pip", "install"]:
            assert_installable(words[2])
        elif words[0] == "cd":
            self.directory = self.directory / words[1]
        elif words[0] == "uvicorn":
            self._server_command = command
        elif words[:3] == ["python", "-m", "websockets"]:
            self._open(words[3])
        else:
            return self.run("sh", "-c", command)
        return ""

    def run(self, *arguments: str | Path) -> str:
        """The output of a program where the reader is; it has to succeed."""
        run = subprocess.run(
            arguments, cwd=self.directory, env=self._env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert run.returncode == 0, f"{arguments}\n{run.stdout}"
        return run.stdout

    def _receive(self) -> str:
        # Links name the port, which is the only thing not as shown.
        return self._socket.recv(timeout=20).replace(f"localhost:{self._port}", "localhost:8000")

    def _learn_position(self, answer: str, shown: str) -> None:
        """A position shown for the first time is the one received."""
        name = re.search(r'"position": "([\w.-]+?)\.\.\."', shown)
        received = re.search(r'"position": "([\w.-]+)"', answer)
        if name and received and received[1] not in self._positions.values():
            assert name[1] not in self._positions, f"{name[1]}... stands for another position."
            self._positions[name[1]] = received[1]

    def _with_positions(self, text: str) -> str:
        def received(shown: re.Match[str]) -> str:
            position = self._positions.get(shown[1])
            return shown[0] if position is None else f'"{position}"'

        return re.sub(r'"([\w.-]+?)\.\.\."', received, text)

    def _open(self, url: str) -> None:
        if self._server is None:
            self._start_server()
        elif self._socket is not None:
            self._socket.close()
        assert "localhost:8000" in url, "That is where the server's command serves."
        url = url.replace("localhost:8000", f"localhost:{self._port}")
        # A socket of our own: no proxy of the machine's comes between.
        transport = socket.create_connection(("127.0.0.1", self._port))
        self._socket = self._exits.enter_context(connect(url, sock=transport))

    def _start_server(self) -> None:
        # Port 0: any that is free; the server's own "running" line says which.
        self._server = self._exits.enter_context(
            subprocess.Popen(
                [*shlex.split(self._server_command), "--port", "0"], cwd=self.directory,
                env=self._env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
        )  # fmt: skip
        said = []
        for line in self._server.stdout:
            said.append(line)
            if running := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
                self._port = int(running[1])
                return
        raise AssertionError(f"{self._server_command}\n{''.join(said)}")

    def _stop_server(self) -> None:
        if self._server is not None:
            self._server.terminate()
            self._exits.close()
            self._server = self._socket = None
