"""The events from one ordered list to another, by properties of every pair of lists."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from rest_channels.live.delivery.window_script import Step, applied, script
from rest_channels.live.log.store import Kind

KEYS = st.sampled_from(string.ascii_lowercase)
LISTS = st.lists(KEYS, unique=True, max_size=20)


def test_a_row_that_changes_moves_rather_than_its_neighbours():
    assert script("abcd", "dabc", changed="d") == [Step(Kind.UPDATE, "d", None, moves=True)]
    assert script("ab", "ba", changed="a") == [Step(Kind.UPDATE, "a", "b", moves=True)]


def test_a_row_that_changes_in_its_place_has_no_after():
    assert script("abc", "abc", changed="b") == [Step(Kind.UPDATE, "b")]


def test_a_row_that_is_pushed_out_leaves_before_the_other_enters():
    assert script("abc", "zab") == [
        Step(Kind.DELETE, "c"),
        Step(Kind.CREATE, "z", None, moves=True),
    ]


def test_a_renamed_row_leaves_and_enters():
    assert script("abc", "abc", renamed="b") == [
        Step(Kind.DELETE, "b"),
        Step(Kind.CREATE, "b", "a", moves=True),
    ]


@given(LISTS, LISTS, st.sets(KEYS), st.sets(KEYS))
def test_steps_lead_to_the_list(before, now, changed, renamed):
    assert applied(before, script(before, now, changed, renamed)) == now


@given(LISTS, LISTS, st.sets(KEYS))
def test_a_list_is_never_longer_on_the_way_than_at_its_ends(before, now, changed):
    steps = script(before, now, changed)
    for number, step in enumerate(steps):
        held = applied(before, steps[: number + 1])
        assert step.kind != Kind.CREATE or len(held) <= len(now)
        assert len(held) <= max(len(before), len(now))


@given(LISTS, LISTS, st.sets(KEYS))
def test_after_names_the_row_in_front(before, now, changed):
    steps = script(before, now, changed)
    for number, step in enumerate(steps):
        if step.moves:
            held = applied(before, steps[: number + 1])
            at = held.index(step.key)
            assert step.after == (held[at - 1] if at else None)


@given(LISTS, LISTS, st.sets(KEYS))
def test_each_row_has_one_event_at_most_and_each_changed_row_one(before, now, changed):
    steps = script(before, now, changed)
    named = [step.key for step in steps]
    assert len(named) == len(set(named))
    assert set(named) >= (set(before) ^ set(now)) | (changed & set(now))


@given(st.permutations(string.ascii_lowercase[:8]), st.sets(KEYS))
def test_as_few_unchanged_rows_move_as_possible(now, changed):
    before = string.ascii_lowercase[:8]
    moved = {step.key for step in script(before, now, changed) if step.moves}
    kept = [key for key in now if key not in changed]
    assert len(moved - changed) == len(kept) - longest_in_order(kept)


def longest_in_order(keys):
    """By trying all: of the parts that end with each key, the longest."""
    lengths = []
    for number, key in enumerate(keys):
        shorter = [lengths[i] for i in range(number) if keys[i] < key]
        lengths.append(1 + max(shorter, default=0))
    return max(lengths, default=0)


@given(LISTS, LISTS, LISTS, st.sets(KEYS), st.sets(KEYS), st.integers(0, 20))
def test_a_script_that_is_interrupted_goes_on_with_the_rows_not_yet_told(
    first, second, third, changed, more, sent
):
    """A backlog does so: rows that it has sent, or that did not change, never need their text."""
    steps = script(first, second, changed)
    held = applied(first, steps[:sent])
    waiting = {step.key for step in steps[sent:] if step.kind != Kind.DELETE}
    waiting |= {s.key for s in script(second, third, more) if s.kind != Kind.DELETE}
    rest = script(held, third, waiting & set(third))
    assert applied(held, rest) == third
    assert {step.key for step in rest if step.kind != Kind.DELETE} <= waiting
