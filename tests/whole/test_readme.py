"""The README, followed literally and held against what is there."""

from __future__ import annotations

import json
import re

from tests.support.distribution import ROOT, extras
from tests.support.walkthrough import Walkthrough, blocks

README = ROOT / "README.md"


def test_every_step_of_the_example_works_and_every_reply_is_the_one_shown(tmp_path):
    with Walkthrough(tmp_path) as walkthrough:
        walkthrough.follow(README)


def test_the_example_goes_from_installation_to_replies_with_an_error_and_a_refusal():
    shown = [line for block in blocks(README) for line in block.typed if line.startswith("< ")]
    replies = [json.loads(line[2:])["payload"]["response_status"] for line in shown]
    assert replies == [201, 400, 200, 403, 201, 200, 204]
    first = next(blocks(README)).lines[0]
    assert first.startswith("$ pip install")


def test_the_extras_it_names_exist():
    sentence = re.search(r"^The extras are .*?\n\n", README.read_text(), re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`(\w+)`", sentence[0]))
    assert named == extras() - {"demo", "test", "lint", "docs"}
