"""Which variants of parametrised tests a short run leaves out."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.variants import beyond_variants


@dataclass(frozen=True)
class Item:
    nodeid: str


ITEMS = [Item(f"tests/a.py::test_b[{n}]") for n in range(20)]
SINGLE = Item("tests/a.py::test_c")


def left(most, run):
    return {*ITEMS, SINGLE} - {*beyond_variants([*ITEMS, SINGLE], most, run)}


def test_each_function_keeps_some_of_its_variants():
    assert len(left(2, "oldest sqlite")) == 3
    assert SINGLE in left(1, "oldest sqlite")


def test_a_run_repeats_its_choice_and_another_makes_its_own():
    assert left(2, "oldest sqlite") == left(2, "oldest sqlite")
    assert left(2, "oldest sqlite") != left(2, "newest postgresql")


def test_nothing_is_left_out_of_few():
    assert beyond_variants(ITEMS, 20, "oldest sqlite") == []
