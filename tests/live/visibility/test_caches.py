"""Caches that listen to the ORM: a pass neither asks nor fills them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def row(name):
    return [{"username": name, "groups": [name], "count": 1}]


@pytest.mark.parametrize("package", ["cachalot", "cacheops"])
def test_a_subscription_leaves_nothing_old_in_the_cache(package, require_redis):
    command = [sys.executable, "-m", "tests.support.projects.cached_project", package]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["shown"] == row("first")
    # Had the pass filled the cache, a plain list would show what it has seen.
    assert seen["listed"] == row("second")
    # The cache is at work: lists do not see what it was not told of. A pass does.
    assert seen["cached"] == row("second")
    assert seen["subscribed"] == row("third")
