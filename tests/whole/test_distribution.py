"""The package as package indexes show it."""

from __future__ import annotations

import importlib.metadata
import json
import re
import runpy
import zipfile

import rest_channels
from tests.support import distribution
from tests.support.distribution import ROOT

SETUP = runpy.run_path(str(ROOT / "setup.py"), run_name="setup")
README = (ROOT / "README.md").read_text()


def relative_links(text: str) -> list[str]:
    return re.findall(r"\]\((?!\w+:|#)([^)]+)\)", text)


def test_without_a_public_address_no_link_of_the_readme_is_left_that_leads_nowhere():
    shown = SETUP["long_description"](README, None)
    assert relative_links(README) and relative_links(shown) == []
    assert "Wire protocol: frames, replies" in shown


def test_with_one_every_link_is_absolute():
    shown = SETUP["long_description"](README, "https://code.example/rest-channels/")
    assert relative_links(shown) == []
    assert "(https://code.example/rest-channels/blob/main/docs/live.md)" in shown


def test_what_is_installed_has_the_long_description():
    metadata = importlib.metadata.metadata(distribution.name())
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = metadata["Description"] or metadata.get_payload()
    assert "Your Django REST framework viewsets" in text and relative_links(text) == []


def test_the_wheel_contains_the_javascript_client_as_static_files(tmp_path):
    wheel = distribution.build_wheel(tmp_path)
    static = "rest_channels/static/rest_channels/"
    here = {path.name: path.read_bytes() for path in (ROOT / static).iterdir()}
    with zipfile.ZipFile(wheel) as packed:
        names = [name for name in packed.namelist() if name.startswith(static)]
        assert {name.removeprefix(static): packed.read(name) for name in names} == here
    assert "client.js" in here


def test_the_package_on_npm_has_the_same_version():
    package = json.loads((ROOT / "js" / "package.json").read_text())
    assert package["version"] == rest_channels.__version__
    assert "dependencies" not in package
