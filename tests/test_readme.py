"""The README, followed literally and held against what is there."""

from __future__ import annotations

import json
import re

from tests.distribution import ROOT, extras, lower_bounds, python_versions
from tests.walkthrough import Walkthrough, blocks

README = ROOT / "README.md"


def test_every_step_of_the_example_works_and_every_reply_is_the_one_shown(tmp_path):
    with Walkthrough(tmp_path) as walkthrough:
        walkthrough.follow(README)


def test_the_example_goes_from_installation_to_replies_with_an_error_and_a_refusal():
    shown = [line for block in blocks(README) for line in block.lines if line.startswith("< ")]
    replies = [json.loads(line[2:])["payload"]["response_status"] for line in shown]
    assert replies == [201, 400, 200, 403, 201, 200, 204]
    first = next(blocks(README)).lines[0]
    assert first.startswith("$ pip install")


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
