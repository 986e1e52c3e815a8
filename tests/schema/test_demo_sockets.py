"""The page of the documentation that shows the document of the demo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from tests.support.distribution import ROOT

pytestmark = pytest.mark.once

DOCUMENT = ROOT / "docs" / "assets" / "demo-sockets.json"

spec = spec_from_file_location("sockets_tables", ROOT / "docs" / ".sockets.py")
assert spec is not None and spec.loader is not None
hook = module_from_spec(spec)
spec.loader.exec_module(hook)


def test_the_document_is_that_of_the_demo():
    """If not, the output ends with the command that writes it again."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("DJANGO_SETTINGS_MODULE", None)
    command = [sys.executable, "demo/manage.py", "socket_schema", "--check", str(DOCUMENT)]
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_the_page_has_each_action_with_what_it_takes_and_answers():
    page = hook.tables(json.loads(DOCUMENT.read_text()))
    lines = page.splitlines()
    sections = [line for line in lines if line.startswith("## ")]
    assert sections[:2] == ["## `rooms`", "## `messages`"]
    assert sections[-1] == "## `connection`"
    assert "| `partial_update`, `patch` | PATCH | *PatchedCard* `pk` | *Card* |" in lines
    assert "| `list` | GET | `?cursor` `?room` `?search` | *PaginatedMessageList* |" in lines
    assert "| `ping` |  |  |  |" in lines
    assert "| Events of watch | `change`, `revoke` |" in lines
