"""AsyncAPI's own parser finds nothing to complain about in documents of whole projects."""

from __future__ import annotations

import os
import subprocess

import pytest
from django.test import override_settings

from rest_channels.schema.asyncapi import asyncapi
from rest_channels.schema.description import describe
from rest_channels.schema.formats import to_json
from tests.support.apps import odd_api_app
from tests.support.distribution import ROOT
from tests.support.node_packages import node_modules
from tests.support.walkthrough import Walkthrough

pytestmark = [pytest.mark.once, pytest.mark.timeout(300)]


@pytest.fixture
def defects(tmp_path):
    """A function that returns the parser's complaints about files."""
    modules = node_modules("@asyncapi/parser", tmp_path / "node")

    def find(*files):
        command = ["node", ROOT / "tests" / "support" / "asyncapi_validity.js", *files]
        env = {**os.environ, "NODE_PATH": str(modules)}
        run = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        return run.stdout.splitlines()

    return find


def test_documents_are_valid_by_asyncapis_parser(tmp_path, defects):
    odd = tmp_path / "odd.json"
    with override_settings(ROOT_URLCONF="tests.support.apps.odd_api_app"):
        odd.write_text(to_json(asyncapi(describe(odd_api_app.application))))
    # tests/schema/test_demo_sockets.py compares it with the demo.
    demo = ROOT / "docs" / "assets" / "demo-sockets.json"
    (tmp_path / "tutorial").mkdir()
    with Walkthrough(tmp_path / "tutorial") as walkthrough:
        walkthrough.build(ROOT / "docs" / "tutorial.md")
        walkthrough.run("sh", "-c", "python manage.py socket_schema > sockets.json")
        tutorial = walkthrough.directory / "sockets.json"
        # A file that is not a document shows that the parser looks.
        broken = tmp_path / "broken.json"
        broken.write_text(tutorial.read_text().replace('"action": "receive"', '"action": "hear"'))
    found = defects(odd, demo, tutorial, broken)
    assert [line for line in found if not line.startswith(str(broken))] == []
    assert found
