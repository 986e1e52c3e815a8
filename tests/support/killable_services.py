"""
Servers of a test's own, which it may kill, stop and start again: Redis and PostgreSQL.

    with OwnRedis() as redis:
        redis.hang()
        redis.go_on()
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

import redis

# Nothing takes as long, unless it never comes.
SECONDS = 20


def has_redis() -> bool:
    """Whether one can be started here."""
    return shutil.which("redis-server") is not None


def has_postgresql() -> bool:
    """Whether one can be started here."""
    return _programs() is not None


def has_pgbouncer() -> bool:
    """Whether one can be started here."""
    return shutil.which("pgbouncer") is not None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class OwnRedis:
    """A Redis that keeps nothing on the disk; a context manager, which kills it at the end."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._process is not None:
            self.kill()

    def start(self) -> None:
        """Start it, or start it again: empty."""
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port)]
        self._process = subprocess.Popen(
            [*command, "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
            cwd=tempfile.gettempdir(),
        )
        while not self._answers():
            assert self._process.poll() is None, "redis-server has ended"

    def kill(self) -> None:
        process, self._process = self._process, None
        process.kill()
        process.wait(SECONDS)

    def hang(self) -> None:
        """It takes what it is sent, and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """For a `with` statement."""
        return redis.Redis(port=self.port)

    def _answers(self) -> bool:
        with contextlib.suppress(redis.ConnectionError), self.client() as client:
            return bool(client.ping())
        return False


class OwnPostgreSQL:
    """A cluster of PostgreSQL; a context manager, which stops it at the end and removes it."""

    def __init__(self) -> None:
        self.port = free_port()
        self._is_running = False
        programs = _programs()
        assert programs is not None, "the server of PostgreSQL is not installed"
        self._programs = programs
        # Its server refuses to run as root.
        self._user = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="rest_channels_postgresql_"))
        if self._user:
            shutil.chown(self._directory, **self._user)
        self._run("initdb", "--no-sync", "--auth", "trust", "--username", "postgres")
        # Commits survive a crash of the server, if not of the machine.
        settings = {
            "port": self.port,
            "listen_addresses": "'127.0.0.1'",
            "unix_socket_directories": "''",
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "8MB",
        }
        with (self._directory / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._is_running:
            self.stop()
        shutil.rmtree(self._directory)

    @property
    def database(self) -> dict[str, Any]:
        """Its entry in Django's settings."""
        where = {"HOST": "127.0.0.1", "PORT": self.port}
        return {"NAME": "postgres", "USER": "postgres", "CONN_MAX_AGE": None, **where}

    def start(self) -> None:
        log = str(self._directory / "log")
        self._run("pg_ctl", "start", "--wait", "--log", log)
        self._is_running = True

    def stop(self) -> None:
        """At once, as a crash would."""
        self._is_running = False
        self._run("pg_ctl", "stop", "--wait", "--mode", "immediate")

    def hang(self) -> None:
        """It takes what it is sent, and answers nothing, on new connections neither."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, signum: int) -> None:
        first = int((self._directory / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        for pid in (first, *map(int, children)):
            os.kill(pid, signum)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "--pgdata", str(self._directory), *arguments]
        # Not a pipe: the server would hold it open.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                command, stdout=output, stderr=output, check=False, cwd="/", timeout=60,
                **self._user,
            )  # fmt: skip
            output.seek(0)
            assert done.returncode == 0, output.read()


class OwnPgBouncer:
    """A pooler of the tests' PostgreSQL, in transaction mode; a context manager, which ends it."""

    def __init__(self, host: str) -> None:
        self.port = free_port()
        self._host = host

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="rest_channels_pgbouncer_")
        directory = Path(self._directory.name)
        (directory / "users").write_text('"postgres" ""\n')
        (directory / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={self._host}\n[pgbouncer]\npool_mode = transaction\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {directory / 'users'}\n"
            "ignore_startup_parameters = extra_float_digits,options\n"
        )
        user = "postgres" if os.getuid() == 0 else None
        for path in (directory, *directory.iterdir()):
            if user:
                shutil.chown(path, user, user)
        self._process = subprocess.Popen(
            ["pgbouncer", "--quiet", str(directory / "pgbouncer.ini")], user=user, group=user
        )
        while not self._answers():
            assert self._process.poll() is None, "pgbouncer has ended"
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.wait(SECONDS)
        self._directory.cleanup()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False


def _programs() -> Path | None:
    """Return the folder of PostgreSQL's programs: Debian has the server's apart, by version."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None
