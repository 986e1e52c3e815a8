"""
A real server in a thread of the test's process, on the test's database.

    with Server(router.as_asgi()) as server:
        server.url("/")  # "ws://127.0.0.1:40123/"
"""

from __future__ import annotations

import socket
import threading
from typing import Any

import uvicorn


class Server:
    """uvicorn, from `with` to its end."""

    def __init__(self, application: Any) -> None:
        config = uvicorn.Config(application, lifespan="off", log_config=None)
        self._uvicorn = uvicorn.Server(config)

    def __enter__(self) -> Server:
        # Listening before the thread starts: clients wait in the backlog.
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(
            target=self._uvicorn.run, kwargs={"sockets": [self._socket]}, name="uvicorn"
        )
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._uvicorn.should_exit = True
        self._thread.join()
        self._socket.close()

    def url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self._socket.getsockname()[1]}{path}"
