"""The client needs neither Django nor REST framework, and its core no event loop either."""

from __future__ import annotations

import subprocess
import sys

from tests.support.distribution import ROOT

# An import of a module that is None in sys.modules fails.
BLOCKED = "import sys\nsys.modules.update(dict.fromkeys({names}))\n{code}"

# The package without what its own `__init__` imports.
CORE = """
import types
package = sys.modules["rest_channels.client"] = types.ModuleType("rest_channels.client")
package.__path__ = ["rest_channels/client"]
import rest_channels.client.core
"""


def run_without(names: list[str], code: str) -> str:
    """Run code that cannot import these; return what it writes to stderr."""
    command = [sys.executable, "-W", "error", "-c", BLOCKED.format(names=names, code=code)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return run.stderr


def test_the_client_is_imported_without_django() -> None:
    names = ["django", "rest_framework", "channels", "asgiref"]
    assert run_without(names, "import rest_channels.client") == ""
    assert "ModuleNotFoundError" in run_without(names, "import rest_channels.viewsets")


def test_the_core_is_imported_without_asyncio_and_websockets() -> None:
    assert run_without(["asyncio", "websockets"], CORE) == ""
    assert "ModuleNotFoundError" in run_without(["asyncio"], "import rest_channels.client.network")


def test_without_websockets_the_error_says_what_to_install() -> None:
    error = run_without(["websockets"], "import rest_channels.client")
    assert "pip install 'django-rest-channels[client]'" in error
