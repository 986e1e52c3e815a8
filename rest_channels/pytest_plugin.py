"""The pytest fixture `socket_client`, registered by the package's entry point."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rest_channels.test import SocketClient


@pytest.fixture
def socket_client() -> Iterator[SocketClient]:
    """
    Yield a `rest_channels.test.SocketClient` of the project's root socket; close it after the test.
    """
    from rest_channels.test import SocketClient  # needs configured settings

    with SocketClient() as client:
        yield client
