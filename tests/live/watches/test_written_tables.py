"""Which answers are out of date, by the places in the log that they were made at."""

from __future__ import annotations

import pytest

from rest_channels.live.delivery.pass_state import Seen
from rest_channels.live.log.positions import Position
from rest_channels.live.visibility.audiences import ModelChanges
from rest_channels.live.watches.written_tables import WrittenTables


def at(number, mark=1):
    return Position(number, mark)


def seen(number, *labels, mark=1, is_continuous=True):
    return Seen(at(number, mark), {label: ModelChanges() for label in labels}, is_continuous)


@pytest.fixture
def written():
    tables = WrittenTables()
    tables.add(seen(10, is_continuous=False))
    tables.add(seen(12, "tests.Room"))
    tables.add(seen(15, "tests.Tag"))
    return tables


@pytest.mark.parametrize(
    ("head", "labels", "is_outdated"),
    [
        (10, ["tests.Room"], True),
        (11, ["tests.Room"], True),
        (12, ["tests.Room"], False),
        (12, ["tests.Room", "tests.Tag"], True),
        (15, ["tests.Tag"], False),
        (10, ["tests.Message"], False),
    ],
)
def test_a_table_that_was_written_to_after_the_answer(written, head, labels, is_outdated):
    assert written.concern(at(head), labels) is is_outdated


def test_what_was_before_the_first_pass_is_unknown(written):
    assert written.concern(at(9), ["tests.Message"])
    assert written.concern(at(10, mark=2), ["tests.Message"])
    assert not written.concern(at(10), ["tests.Message"])


def test_the_first_pass_of_a_reader_that_came_later_is_one_of_its_own():
    tables = WrittenTables()
    assert not tables.concern(at(3), ["tests.Room"])
    tables.add(seen(5, "tests.Tag"))
    assert tables.concern(at(4), ["tests.Room"])
    assert not tables.concern(at(5), ["tests.Room"])


def test_a_log_that_was_replaced(written):
    written.add(seen(3, mark=7, is_continuous=False))
    # The old numbers are higher than any of the new log for a long time.
    assert written.concern(at(15), ["tests.Message"])
    assert not written.concern(at(3, mark=7), ["tests.Message"])


def test_a_user_who_was_written_to():
    tables = WrittenTables()
    tables.add(seen(1))
    users = ModelChanges(of_key={"7": []})
    tables.add(Seen(at(2), {"auth.User": users}, True))
    assert tables.concern_users(at(1), [7])
    assert not tables.concern_users(at(2), [7])
    assert not tables.concern_users(at(1), [8])
    tables.add(seen(3, "auth.Group"))
    # It may hold the permissions of anybody.
    assert tables.concern_users(at(2), [8])
    assert not tables.concern_users(at(2), [])
