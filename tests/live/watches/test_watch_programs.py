"""
Random programs of watches: afterwards each client holds what a fresh request gives.

And mutations of the rules, each of which a program finds.
"""

from __future__ import annotations

import os

import pytest

from rest_channels.live.watches import (
    answer_sharing,
    shared_groups,
    watch_groups,
    watch_hub,
    watching,
    written_tables,
)
from rest_channels.live.watches.read_tables import Reading
from rest_channels.sockets import watch_exchange
from tests.support.random_programs.stages import PROGRAMS
from tests.support.random_watches import run_program

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(1_800),
    pytest.mark.programs,
]

SEEDS = (
    [int(os.environ["TEST_SEED"])] if "TEST_SEED" in os.environ else range(max(5, PROGRAMS // 10))
)


@pytest.fixture(autouse=True)
def runs_follow_soon(settings):
    settings.REST_CHANNELS = {
        "WATCH_SECONDS": 0.01,
        "LEASE_SECONDS": 0.3,
        "POLL_SECONDS": 0.05,
    }


def test_what_clients_hold():
    for seed in SEEDS:
        print("TEST_SEED", seed)
        run_program(seed)


def blind_for_rooms(monkeypatch):
    concern = written_tables.WrittenTables.concern

    def concern_others(self, head, tables):
        return concern(self, head, [table for table in tables if table != "tests.Message"])

    monkeypatch.setattr(written_tables.WrittenTables, "concern", concern_others)


def blind_for_permissions(monkeypatch):
    monkeypatch.setattr(watch_groups, "ENDING", frozenset())


def one_answer_for_all_users(monkeypatch):
    def key_of(self, watching, basis):
        return watching.watch.place

    monkeypatch.setattr(watch_hub.WatchHub, "key_of", key_of)
    # A second line of defence: a group parts with clients of other users before it answers them.
    monkeypatch.setattr(watch_groups.Group, "_part_with_others", lambda self, identity: None)


def without_checks(monkeypatch):
    def on_written(self, alias, written):
        if written.concern(self.basis.heads[alias], self.basis.tables[alias]):
            self.ring()

    monkeypatch.setattr(watch_hub.WatchHub, "holds", lambda self, check, watching: True)
    monkeypatch.setattr(shared_groups.SharedGroup, "on_written", on_written)


def every_answer_is_shared(monkeypatch):
    monkeypatch.setattr(answer_sharing, "unproven_answer", lambda view, handler: None)
    monkeypatch.setattr(watch_exchange, "reads_in", lambda view: frozenset())


def no_answer_is_shared_on(monkeypatch):
    async def share(self, others, identity, basis):
        return

    monkeypatch.setattr(shared_groups.SharedGroup, "_share", share)


def every_answer_resumes(monkeypatch):
    monkeypatch.setattr(watching, "is_same", lambda given, expected: isinstance(given, str))


def no_table_is_read(monkeypatch):
    monkeypatch.setattr(Reading, "enter_body", lambda self: setattr(self, "_current", set()))


@pytest.mark.once
@pytest.mark.parametrize(
    "mutate",
    [
        *[blind_for_rooms, blind_for_permissions, one_answer_for_all_users],
        *[every_answer_resumes, no_table_is_read],
        *[without_checks, every_answer_is_shared, no_answer_is_shared_on],
    ],
)
def test_a_broken_rule_is_found(mutate, monkeypatch):
    mutate(monkeypatch)
    with pytest.raises((AssertionError, KeyError)):
        for seed in range(30):
            print("program", seed)
            run_program(seed)
