"""Which of the services that some tests need are on this machine."""

from __future__ import annotations

import os
import shutil
import socket


def are_required() -> bool:
    """Whether a test may not be skipped for want of a service: `REQUIRE_SERVICES=1`."""
    return os.environ.get("REQUIRE_SERVICES") == "1"


def has_postgresql() -> bool:
    return _answers(os.environ.get("PGHOST", "127.0.0.1"), int(os.environ.get("PGPORT", "5432")))


def has_redis() -> bool:
    return _answers("127.0.0.1", 6379)


def has_chromium() -> bool:
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


def has_node() -> bool:
    return bool(shutil.which("node") and shutil.which("npm"))


def absent() -> list[str]:
    """One line for each service that does not answer, saying what goes untested."""
    reasons = {
        "PostgreSQL (127.0.0.1:5432): all tests ran on SQLite alone": has_postgresql(),
        "Redis (127.0.0.1:6379): several server processes": has_redis(),
        "chromium and chromedriver: the demo in a browser": has_chromium(),
        "node and npm: JavaScript clients": has_node(),
    }
    return [reason for reason, is_there in reasons.items() if not is_there]


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True
