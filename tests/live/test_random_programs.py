"""
Random programs: who writes, subscribes, leaves, comes back, while passes run on two processes,
in worlds of several kinds.

Whatever happens, afterwards every client holds what `list` or `retrieve` would show it, the
chain of its positions has no gap, and never was anybody shown what they could not see at any
moment between the beginning of the step and the arrival.
"""

from __future__ import annotations

import os
from collections import Counter
from random import Random
from types import SimpleNamespace

import pytest
from channels.layers import get_channel_layer
from django.db import connection

from rest_channels.bus import doorbell, publisher
from rest_channels.live.capture import triggers
from rest_channels.live.capture import writes as capture
from rest_channels.live.delivery import refresh, renderings, subscription, updates
from rest_channels.live.log.replay import History
from rest_channels.live.log.store import Kind
from rest_channels.live.visibility import audiences, filter_index, row_loader
from tests.support.random_programs.row_worlds import NestedNotes
from tests.support.random_programs.stages import PLAIN, PROGRAMS, check, must_fail, stage

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(1_800),
    pytest.mark.programs,
]


HAPPENINGS = [
    *["create", "update", "delete", "sync", "reset", "revoke"],
    *["subscribed", "refused", "resumed", "resumed elsewhere", "cut", "rolled back"],
]

# Enough for some to ring, however few programs there are in all.
UNDER_A_LAYER = max(20, PROGRAMS // 50)


@pytest.fixture
def narrowing(monkeypatch):
    """The changes left out for audiences, and those that the database would have found."""
    found = SimpleNamespace(left_out=0, wrong=[])

    def narrowed(wanted, alias):
        kept = filter_index.narrowed(wanted, alias)
        for audience, keys in wanted.items():
            rest = set(keys) - kept.get(audience, set())
            found.left_out += len(rest)
            seen = {str(row.pk) for row in dict(row_loader.read_rows({audience: rest}))[audience]}
            if concerned := rest & (seen | audience.members.keys()):
                found.wrong.append((audience, concerned))
        return kept

    monkeypatch.setattr(refresh, "narrowed", narrowed)
    return found


def test_what_clients_hold_and_are_shown(narrowing):
    tally = Counter()
    with stage(tally=tally) as failure:
        check(failure, PROGRAMS)
    print(tally)
    if "TEST_SEED" not in os.environ:
        assert tally["programs"] == PROGRAMS
        # That it happened at all what is promised to go well.
        assert PROGRAMS < 1_000 or all(tally[word] for word in HAPPENINGS), tally
        assert narrowing.left_out
    assert narrowing.wrong == []


@pytest.mark.only_on("sqlite", "postgresql")
def test_what_is_written_is_noted_by_triggers():
    with stage(capture="triggers") as failure:
        check(failure, min(PROGRAMS, 25))


def test_audiences_that_move_between_tracks():
    tally = Counter()
    with stage(tally=tally, moves=Random()) as failure:
        check(failure, min(PROGRAMS, 200))
    print(tally)


@pytest.mark.parametrize("name", ["Dropping", "Doubling", "Reordering", "Delaying"])
def test_whatever_the_layer_does_to_doorbells(name, settings):
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"tests.support.faulty_layers.{name}Layer"}}
    layer = get_channel_layer()
    # The steps of the layer before which a bell rang. Rings of one step may be merged.
    rung = set()

    def ring(alias):
        rung.add(layer.asked)
        publisher.ring(alias)

    with stage(layer) as failure, pytest.MonkeyPatch.context() as patch:
        # By the layer alone: here all processes are one.
        patch.setattr(doorbell, "ring", ring)
        check(failure, UNDER_A_LAYER)
    assert len(rung) > UNDER_A_LAYER
    assert rung <= layer.sent_before, "a ring was lost before the layer"
    # The worst of these layers loses half of them, and some are for processes that have left.
    assert layer.delivered > layer.offered // 5 > 0


@pytest.mark.once
@pytest.mark.only_on("sqlite", "postgresql")
def test_programs_notice_a_table_without_triggers():
    with stage(capture="triggers") as failure:
        [notes] = [d for d in triggers.definitions("default") if d.label == "tests.Note"]
        with connection.cursor() as cursor:
            for statement in triggers.dropping("default", notes.name):
                cursor.execute(statement)
        must_fail(failure, [542747150])


# Rules left out: the programs have to notice.


def without_doubt(patch):
    """Rely on an answer although what it was made of was written to."""
    patch.setattr(refresh.Pass, "_doubt", lambda self, changes: None)


def without_object_permissions(patch):
    patch.setattr(audiences, "_may_see", lambda view, instance: True)


def without_deletions(patch):
    record = capture.record

    def record_writes(alias, *writes):
        record(alias, *(write for write in writes if write.kind != Kind.DELETE))

    patch.setattr(capture, "record", record_writes)


def with_texts_for_everybody(patch):
    """Give the text that was made for one user to all."""
    patch.setattr(renderings, "owner_of", lambda topic, reach: None)


def with_wrong_previous(patch):
    def address(request_id, position, previous):
        return f'{request_id}, "position": "{position}", "previous": "{position}"}}'

    patch.setattr(subscription.Message, "address", staticmethod(address))


def without_removals_on_resume(patch):
    changes = updates.of_state

    def told(*args):
        return [event for event in changes(*args) if event.kind != Kind.DELETE]

    patch.setattr(updates, "of_state", told)


def without_those_who_hold_a_row(patch):
    """Take a row that matches no more for one that concerns nobody."""

    def narrowed(wanted, alias):
        found = filter_index.narrowed(wanted, alias)
        return {a: {k for k in keys if k not in a.members} for a, keys in found.items()}

    patch.setattr(refresh, "narrowed", narrowed)


@pytest.mark.once
@pytest.mark.parametrize(
    ("leave_out", "finders"),
    [
        (without_doubt, [3723497297]),
        (without_object_permissions, [2003594567]),
        (without_deletions, [1040130148]),
        (with_texts_for_everybody, [754542472]),
        (with_wrong_previous, [3388830479]),
        (without_removals_on_resume, [2703928168]),
        (without_those_who_hold_a_row, [1513509911]),
    ],
)
def test_programs_notice_what_is_left_out(leave_out, finders, monkeypatch):
    with stage() as failure:
        leave_out(monkeypatch)
        must_fail(failure, finders)


# Rules of tracks left out, while audiences move


def without_the_position(patch):
    """Take in an audience as if it had received what its new track has."""
    since = History.since
    patch.setattr(History, "since", lambda history, place: since(history, history.end))


@pytest.mark.once
def test_programs_notice_audiences_that_move_without_their_position():
    with stage(moves=Random()) as failure, pytest.MonkeyPatch.context() as patch:
        without_the_position(patch)
        must_fail(failure, [3990092546])


# Found by programs


def pending(stream, *writes):
    """A write while a client resumes shows in the pass, and comes to the log later."""
    start = [("open_club", False), ("open_club", False), ("enter", 0, "ann")]
    rows = [("create", 0, True), ("create", 0, False), ("label", 0, "red"), ("label", 1, "red")]
    return [
        ("write", [("transaction", [*start, *rows], True)]),
        ("open", 0, "ann", stream, (), None, "snapshot"),
        ("cut", 0, 0),
        ("resume_while", ("before the snapshot", list(writes), False), 0, 1, "held"),
    ]


@pytest.mark.parametrize(
    ("stream", "write"),
    [
        ("eager", ("rename", 0)),
        ("joined", ("promote", "ann")),
        ("board", ("delete_label", 0)),
    ],
)
def test_who_resumes_is_told_of_what_is_pending(stream, write):
    with stage() as failure:
        assert failure(PLAIN, pending(stream, write)) is None


def test_who_resumes_is_told_of_pending_rows_that_others_show():
    kind = NestedNotes()
    with stage(kinds=[kind]) as failure:
        program = pending("trees", ("exit_all", "ben"), ("update_many", 0))
        assert failure(kind, program) is None
