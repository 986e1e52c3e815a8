"""The README, followed literally and held against what is there."""

from __future__ import annotations

import json
import re

import pytest

from tests.distribution import extras, lower_bounds, python_versions
from tests.walkthrough import ROOT, Walkthrough

README = ROOT / "README.md"


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    with Walkthrough(tmp_path_factory.mktemp("readme")) as walkthrough:
        walkthrough.follow(README)
        yield walkthrough


def test_every_step_of_the_example_works_and_every_reply_is_the_one_shown(followed):
    replies = [json.loads(text)["payload"] for text in followed.answered]
    assert [reply["response_status"] for reply in replies] == [201, 400, 200, 403]


def test_it_installs_this_distribution(followed):
    name, extra = re.fullmatch(r"([\w-]+)\[(\w+)\]", followed.installed[0]).groups()
    assert name == "django-rest-channels"
    assert extra in extras()


def test_the_extras_it_names_exist():
    sentence = re.search(r"^The extras are .*?\n\n", README.read_text(), re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`(\w+)`", sentence[0]))
    assert named == extras() - {"demo", "test", "lint", "docs"}


def test_the_supported_versions_are_those_of_setup_cfg():
    table = dict(re.findall(r"^\| ([\w ]+) \| ([\d., a-z]+) \|$", README.read_text(), re.MULTILINE))
    assert table.pop("Python").split(", ") == python_versions()
    assert {name: text.removesuffix(" and later") for name, text in table.items()} == {
        "Django": lower_bounds()["Django"],
        "Django REST framework": lower_bounds()["djangorestframework"],
        "Channels": lower_bounds()["channels"],
        "djangochannelsrestframework": lower_bounds()["djangochannelsrestframework"],
    }
