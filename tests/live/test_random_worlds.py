"""
Random programs in worlds of many kinds: what `tests.live.test_random_programs` promises holds in
each, or the subscription was refused with the documented error.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from django.core.management import call_command
from django.db import connections

from rest_channels.live import keys, log_database
from rest_channels.live.capture import writes
from rest_channels.live.delivery import updates
from rest_channels.live.visibility import audiences, dependencies, evaluations, surroundings
from tests.settings import SQLITE_OPTIONS
from tests.support.random_programs.class_worlds import OtherClasses
from tests.support.random_programs.key_worlds import Keys
from tests.support.random_programs.replica_worlds import REPLICA, LaggingNotes, SpokenNotes
from tests.support.random_programs.row_worlds import DependentNotes, NestedNotes
from tests.support.random_programs.stages import PROGRAMS, check, must_fail, stage
from tests.support.random_programs.tenant_worlds import PolicyNotes, TenantNotes
from tests.support.random_programs.world_kind import IS_POSTGRESQL

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.timeout(1_800),
    pytest.mark.programs,
]

IN_EVERY_DATABASE = [
    *[DependentNotes(), NestedNotes(), TenantNotes(), Keys(), OtherClasses()],
    *[LaggingNotes(), SpokenNotes()],
]
KINDS = [*IN_EVERY_DATABASE, PolicyNotes()] if IS_POSTGRESQL else IN_EVERY_DATABASE
if "TEST_WORLDS" in os.environ:
    KINDS = [kind for kind in KINDS if kind.name in os.environ["TEST_WORLDS"].split(",")]

COUNT = PROGRAMS // 2 if IS_POSTGRESQL else PROGRAMS // 5


@pytest.fixture(scope="module", autouse=True)
def other_database(request, tmp_path_factory):
    """Before a test case asks which databases there are, and after the test's own are made."""
    request.getfixturevalue("django_db_setup")
    own = connections.settings["default"]
    connections.settings[REPLICA] = {
        **own,
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path_factory.mktemp(REPLICA) / "replica.sqlite3"),
        "OPTIONS": SQLITE_OPTIONS,
        "TEST": {**own["TEST"], "MIRROR": None},
    }
    yield
    connections[REPLICA].close()
    del connections[REPLICA]
    del connections.settings[REPLICA]


@pytest.fixture(autouse=True)
def replica():
    """The other database, with tables."""
    call_command("migrate", database=REPLICA, run_syncdb=True, verbosity=0)


@pytest.mark.only_on("sqlite", "postgresql")
@pytest.mark.parametrize("capture", ["signals", "triggers", "auto"])
def test_clients_hold_and_are_shown_what_they_may_see(capture):
    tally = Counter()
    with stage(capture=capture, kinds=KINDS, tally=tally) as failure:
        check(failure, COUNT, KINDS)
    print(tally)


# Rules left out: the programs of the world that needs one have to notice.


def without_whole_reads(patch):
    """Read changed rows alone, whatever the others are to them."""
    patch.setattr(audiences, "is_read_whole", lambda queryset, serializer_class: False)


def without_noted_reads(patch):
    """Depend on what the shape of a queryset says, and not on what is read."""
    patch.setattr(audiences.Audience, "note", lambda self, statements: False)


def without_traces(patch):
    """See nothing of the state that an answer leaves on connections and in threads."""
    patch.setattr(surroundings.Surroundings, "trace", lambda self: surroundings.Trace())


def without_state(patch):
    """Read rows, and make texts, once the state of DRF's answer is undone."""

    def within(self, topic, function):
        evaluation = self._ask(topic)
        evaluation.result = function(evaluation)
        return evaluation

    patch.setattr(evaluations.Evaluations, "within", within)


def without_trip(patch):
    """Name a row by what a writer assigned."""
    patch.setattr(keys, "_back", lambda model, field, value: value)


def without_names(patch):
    """Take a row of another name for one that is called as before."""
    renamed = updates.renamed

    def unmoved(events, before, now):
        return renamed(events, {**before, **now}, now)

    patch.setattr(updates, "renamed", unmoved)


def without_owner(patch):
    """Note a write by the class that wrote."""
    patch.setattr(writes, "label_of", lambda model: model._meta.label)


def without_kin(patch):
    """Take each table of a row for one of its own."""
    patch.setattr(audiences, "kin_of", lambda model: {})
    patch.setattr(dependencies, "_parents", lambda path, model: iter(()))
    patch.setattr(audiences.Audience, "note", lambda self, statements: False)


def without_routing(patch):
    """Read in a pass where the project's router says."""
    patch.setattr(log_database.FollowedDatabase, "db_for_read", lambda self, model, **hints: None)


@pytest.mark.once
@pytest.mark.parametrize(
    ("leave_out", "kind", "finders"),
    [
        (without_whole_reads, DependentNotes(), [3261187627]),
        (without_noted_reads, NestedNotes(), [1755474603]),
        (without_traces, TenantNotes(), [2080934245]),
        (without_state, TenantNotes(), [851808643]),
        pytest.param(without_traces, PolicyNotes(), [], marks=pytest.mark.only_on("postgresql")),
        pytest.param(without_state, PolicyNotes(), [], marks=pytest.mark.only_on("postgresql")),
        (without_trip, Keys(), [3031980126]),
        (without_names, Keys(), [1931535716]),
        (without_owner, OtherClasses(), [2474072402]),
        (without_kin, OtherClasses(), [774152858]),
        (without_routing, LaggingNotes(), [3184433642]),
        (without_routing, SpokenNotes(), [1561160410]),
    ],
)
def test_programs_notice_what_is_left_out(leave_out, kind, finders, monkeypatch):
    tally = Counter()
    with stage(kinds=[kind], tally=tally) as failure:
        leave_out(monkeypatch)
        must_fail(failure, finders, [kind])
    print(leave_out.__name__, tally["programs"])
