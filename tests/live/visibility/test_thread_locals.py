"""Which thread-locals of a project are found, whatever is hidden from the garbage collector."""

from __future__ import annotations

import gc
import threading

import pytest

from rest_channels.live.visibility import thread_locals
from rest_channels.live.visibility.thread_locals import project_locals


@pytest.fixture(autouse=True)
def nothing_was_searched(monkeypatch):
    monkeypatch.setattr(thread_locals, "_last", thread_locals._NEVER)
    yield
    gc.unfreeze()


class Tenant(threading.local):
    name = ""


def test_a_new_one_is_found():
    before = len(project_locals())
    plain, own = threading.local(), Tenant()
    assert {plain, own} <= set(project_locals())
    assert len(project_locals()) == before + 2


def test_one_that_is_frozen_before_the_first_search():
    hidden = Tenant()
    gc.freeze()
    assert hidden in project_locals()


def test_one_that_is_frozen_between_two_searches():
    known = Tenant()
    assert known in project_locals()
    hidden = Tenant()
    gc.freeze()
    later = Tenant()
    assert {known, hidden, later} <= set(project_locals())


def test_frozen_objects_stay_frozen():
    gc.freeze()
    project_locals()
    assert gc.get_freeze_count()


def test_hidden_objects_are_shown_once(monkeypatch):
    first = Tenant()
    gc.freeze()
    assert first in project_locals()
    monkeypatch.setattr(gc, "unfreeze", lambda: pytest.fail("They are known."))
    second = Tenant()
    assert {first, second} <= set(project_locals())
    monkeypatch.undo()
