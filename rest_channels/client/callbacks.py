"""Functions that are called after changes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("rest_channels.client")


class Observers:
    """A list of callbacks; an exception of one is logged and does not keep the call from others."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], Any]] = []

    def subscribe(self, callback: Callable[[], Any]) -> Callable[[], None]:
        """Call `callback` after each change, until the returned function is called."""

        # Two subscriptions of one function are two.
        def call() -> Any:
            return callback()

        self._callbacks.append(call)

        def stop() -> None:
            if call in self._callbacks:
                self._callbacks.remove(call)

        return stop

    def notify(self) -> None:
        for call in [*self._callbacks]:
            try:
                call()
            except Exception:
                logger.exception("A subscriber of the client has raised an exception.")
