from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.python_client import Chat


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no proxy of the machine's come in between."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def chat() -> Iterator[Chat]:
    """A server with a chat for all tests of a module, each in a room of its own."""
    with Chat("uvicorn") as server:
        yield server
