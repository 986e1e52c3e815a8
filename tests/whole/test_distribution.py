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
    assert "![" not in shown and "\n!" not in shown


def test_with_one_every_link_is_absolute():
    shown = SETUP["long_description"](README, "https://code.example/rest-channels/")
    assert relative_links(shown) == []
    assert "(https://code.example/rest-channels/blob/main/docs/live.md)" in shown
    assert "(https://code.example/rest-channels/raw/main/docs/assets/console-live.png)" in shown


def test_what_is_installed_has_the_long_description():
    metadata = importlib.metadata.metadata(distribution.name())
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = metadata["Description"] or metadata.get_payload()
    assert "Your Django REST framework viewsets" in text and relative_links(text) == []


def test_the_wheel_contains_the_javascript_client_and_the_console(tmp_path):
    wheel = distribution.build_wheel(tmp_path)
    folders = ("rest_channels/static/", "rest_channels/templates/")
    here = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    }
    with zipfile.ZipFile(wheel) as packed:
        names = [name for name in packed.namelist() if name.startswith(folders)]
        assert {name: packed.read(name) for name in names} == here
    assert {
        "rest_channels/static/rest_channels/client.js",
        "rest_channels/static/rest_channels/console/console.js",
        "rest_channels/templates/rest_channels/console.html",
    } <= here.keys()


def test_the_package_on_npm_has_the_same_version():
    package = json.loads((ROOT / "js" / "package.json").read_text())
    assert package["version"] == rest_channels.__version__
    assert "dependencies" not in package
