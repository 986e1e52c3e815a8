"""
Real servers, each in a process of its own, serving an application of the tests.

    with Server("daphne", "tests.support.apps.abuse_app:application", MAX_IN_FLIGHT=4) as server:
        with server.connect("/rooms/") as socket:
            socket.send('{"action": "list"}')

Keywords are `REST_CHANNELS` of that process. It has a SQLite database of its own, empty tables in
it, at `server.database`, unless it runs `beside` another or on a `postgresql` of the test's own, in
which the test makes the tables. Its log is in `server.output`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.distribution import ROOT
from tests.support.killable_services import OwnPostgreSQL, free_port

#: Every server that the package is tested on.
KINDS = ["uvicorn", "daphne", "gunicorn", "granian"]

#: The implementations of websockets that uvicorn chooses from: `--ws` names one, "auto" the first.
WEBSOCKETS_OF_UVICORN = ["uvicorn:websockets-sansio", "uvicorn:websockets", "uvicorn:wsproto"]


class _Program(NamedTuple):
    """
    How a server is started: its `command`, the option before `port`, the words for two verbosities.

    `is_ready` matches what the server writes once it listens, with the port if it chose that.
    """

    command: tuple[str, ...]
    port: str
    loud: tuple[str, ...]
    quiet: tuple[str, ...]
    is_ready: re.Pattern[str]
    chooses_port: bool = True


_PROGRAMS = {
    "uvicorn": _Program(
        ("uvicorn",),
        "--port={port}",
        # Not "debug": there it writes down all headers and frames itself.
        ("--log-level=info",),
        ("--log-level=info",),
        re.compile(r"running on http://127\.0\.0\.1:(\d+)"),
    ),
    "daphne": _Program(
        ("daphne",),
        "--port={port}",
        ("--verbosity=3",),
        ("--verbosity=1",),
        re.compile(r"TCP address 127\.0\.0\.1:(\d+)"),
    ),
    "gunicorn": _Program(
        ("gunicorn", "--worker-class=asgi", "--no-control-socket"),
        "--bind=127.0.0.1:{port}",
        ("--log-level=info",),
        ("--log-level=info",),
        re.compile(r"ASGI server listening on http://127\.0\.0\.1:(\d+)"),
    ),
    "granian": _Program(
        ("granian", "--interface=asgi"),
        "--port={port}",
        ("--log-level=info", "--access-log"),
        ("--log-level=info",),
        re.compile(r"Started worker-1()"),
        chooses_port=False,
    ),
}

# gunicorn and granian serve in a process that the one started here starts.
_WORKER = re.compile(r"(?:Booting worker with pid|Spawning worker-1 with PID): (\d+)")


class Address:
    """The address of a server on this machine: opens sockets to it."""

    port: int

    def url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    def connect(self, path: str = "/", **options: Any) -> connect:
        """Open a socket, in a `with` statement."""
        return connect(self.url(path), sock=self.transport(), **_options(options))

    def connect_async(self, path: str = "/", **options: Any) -> connect_async:
        """Open a socket of the test's event loop."""
        return connect_async(self.url(path), sock=self.transport(), **_options(options))

    def connect_lazily(self, path: str = "/") -> connect:
        """Open a socket that reads hardly more of the network than the test asks for."""
        transport = self.transport(receive_buffer_bytes=64 * 1024)
        return connect(
            self.url(path), sock=transport, **_options({"max_queue": 1, "close_timeout": 1})
        )

    def transport(self, *, receive_buffer_bytes: int | None = None) -> socket.socket:
        """A TCP connection: a socket made of it has no proxy of the machine's in between."""
        transport = socket.socket()
        if receive_buffer_bytes is not None:
            transport.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        try:
            transport.connect(("127.0.0.1", self.port))
        except OSError:
            transport.close()
            raise
        return transport


class Server(Address):
    """A server process; a context manager, which kills it at the end."""

    def __init__(
        self,
        kind: str,
        application: str = "tests.support.apps.abuse_app:application",
        *,
        is_loud: bool = False,
        channel_layers: dict[str, Any] | None = None,
        beside: Server | None = None,
        num_proxies: int | None = None,
        postgresql: OwnPostgreSQL | None = None,
        **rest_channels: Any,
    ) -> None:
        self.kind = kind
        name, _, websockets = kind.partition(":")
        self._program = program = _PROGRAMS[name]
        self._command = [sys.executable, "-m", *program.command, application]
        self._command += program.loud if is_loud else program.quiet
        self._command += [f"--ws={websockets}"] if websockets else []
        self._directory = Path(tempfile.mkdtemp(prefix="rest_channels_server_"))
        self._beside = beside
        self.database = self._directory / "database.sqlite3" if beside is None else beside.database
        self._env = {
            **_environment(self.database),
            "TEST_REST_CHANNELS": json.dumps(rest_channels),
            "TEST_NUM_PROXIES": json.dumps(num_proxies),
            "TEST_LOG_LEVEL": "DEBUG" if is_loud else "INFO",
        }
        if postgresql is not None:
            where = {"PGPORT": str(postgresql.port), "PGDATABASE": "postgres", "PGUSER": "postgres"}
            self._env |= {"TEST_DATABASE": "postgresql", "PGHOST": "127.0.0.1", **where}
        if channel_layers is not None:
            self._env["TEST_CHANNEL_LAYERS"] = json.dumps(channel_layers)
        self._lines: list[str] = []
        self._has_port = threading.Event()
        self.port = 0

    def __enter__(self) -> Server:
        if self._beside is None:
            shutil.copy(_empty_database(), self.database)
        self._start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._kill()
        shutil.rmtree(self._directory)

    def restart(self) -> None:
        """Kill the process and start another, with the same database and port."""
        self._kill()
        self._has_port.clear()
        self._start()

    def _start(self) -> None:
        if not self.port and not self._program.chooses_port:
            self.port = free_port()
        # Port 0: any that is free.
        command = [*self._command, self._program.port.format(port=self.port)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=self._env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._has_port.wait(60) or not self.port:
            self.__exit__()
            raise AssertionError(f"{' '.join(command)}\n{self.output}")
        self._wait_until_it_accepts()

    def _wait_until_it_accepts(self) -> None:
        """granian's worker listens a moment after it has been started."""
        while self.is_running:
            with contextlib.suppress(ConnectionRefusedError):
                self.transport().close()
                return

    def _kill(self) -> None:
        worker = self.pid
        # The one that would start another worker is first.
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
        self._reader.join()
        self._process.stdout.close()

    def terminate(self) -> None:
        """Tell the process to stop, as a supervisor does."""
        self._process.terminate()

    def tell(self, signum: int) -> None:
        """Send a signal to the process that serves."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signum)

    def has_ended(self, *, within_s: float = 20) -> bool:
        """Wait until the process has ended, or for too long."""
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def output(self) -> str:
        """All that the process has written."""
        return "".join(self._lines)

    @property
    def pid(self) -> int:
        """The process that serves."""
        workers = _WORKER.findall(self.output)
        return int(workers[-1]) if workers else self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process still is the one that began to serve."""
        return self._process.poll() is None and len(_WORKER.findall(self.output)) < 2

    @property
    def rss_bytes(self) -> int:
        """The memory that the process holds now."""
        return self._status("VmRSS") * 1024

    @property
    def peak_rss_bytes(self) -> int:
        """The most memory that it held since `forget_peak`."""
        return self._status("VmHWM") * 1024

    @property
    def threads(self) -> int:
        return self._status("Threads")

    def forget_peak(self) -> None:
        # 5: reset the high water mark to what is held now, proc(5).
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _status(self, name: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)[1])

    def run(self, code: str) -> str:
        """Run `code` in another process of the same project; returns what it prints."""
        return run_in_process(code, self._env)

    def execute(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Read or change the database behind the process's back, as another process would."""
        with closing(sqlite3.connect(self.database, timeout=20)) as connection, connection:
            return connection.execute(sql, parameters).fetchall()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.append(line)
            if ready := self._program.is_ready.search(line):
                self.port = int(ready[1] or self.port)
                self._has_port.set()
        self._has_port.set()


def run_in_process(code: str, env: dict[str, str]) -> str:
    """Run `code` with the apps loaded; returns what it prints, raises where it fails."""
    command = [sys.executable, "-c", f"import django\ndjango.setup()\n{code}"]
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _options(options: dict[str, Any]) -> dict[str, Any]:
    # No pings, no compression, no limit: what the test sends and receives and nothing else.
    return {"ping_interval": None, "compression": None, "max_size": None, **options}


def _environment(database: Path) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TEST_DATABASE": "sqlite",
        "TEST_DATABASE_FILE": str(database),
        "PYTHONUNBUFFERED": "1",
    }


@functools.cache
def _empty_database() -> Path:
    """The database with all tables, made once for all servers."""
    directory = tempfile.mkdtemp(prefix="rest_channels_empty_")
    atexit.register(shutil.rmtree, directory)
    database = Path(directory) / "empty.sqlite3"
    subprocess.run(
        [sys.executable, "-m", "django", "migrate", "--run-syncdb", "--verbosity", "0"],
        cwd=ROOT, env=_environment(database), check=True,
    )  # fmt: skip
    return database


class RemoteGate:
    """
    The action `wait` waits for it; a context manager. Give it `gate.port`.

    `entered` returns once one more has come, `open` lets all go who have, `open_one` the first.
    """

    def __enter__(self) -> RemoteGate:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        self._waiting: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.close()
        self.open()

    def entered(self) -> None:
        self._waiting.append(self._listener.accept()[0])

    def open_one(self) -> None:
        self._waiting.pop(0).close()

    def open(self) -> None:
        while self._waiting:
            self.open_one()


def ask(socket: Any, action: str, request_id: Any = None, **keys: Any) -> None:
    """Send a frame to a viewset's own socket."""
    socket.send(json.dumps({"action": action, "request_id": request_id, **keys}))


def reply(socket: Any) -> dict[str, Any]:
    return json.loads(socket.recv(20))


def answer(socket: Any, action: str, **keys: Any) -> dict[str, Any]:
    """Send a frame and wait for its reply."""
    ask(socket, action, **keys)
    return reply(socket)


def close_code(socket: Any) -> int | None:
    """Read until the server closes the socket."""
    try:
        while True:
            socket.recv(20)
    except ConnectionClosed as closed:
        return closed.rcvd and closed.rcvd.code


def account(server: Server, username: str, *, by: str = "token") -> dict[str, Any]:
    """Options of `connect` that sign a user of `tests.support.apps.abuse_app` in, new or not."""
    with server.connect("/accounts/") as socket:
        made = answer(socket, "create", data={"username": username})["data"]
    headers = {
        "token": {"Authorization": f"Token {made['token']}"},
        "session": {"Cookie": f"sessionid={made['session']}"},
    }
    return {"additional_headers": headers[by]}
