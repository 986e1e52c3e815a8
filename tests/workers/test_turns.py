"""Threads take short turns while a quick pass runs, and usual ones afterwards."""

from __future__ import annotations

import sys

import pytest

from rest_channels.workers.turns import short_turns


def test_turns_are_short_until_the_last_pass_ends():
    usual = sys.getswitchinterval()
    with short_turns():
        with short_turns():
            assert sys.getswitchinterval() < usual
        assert sys.getswitchinterval() < usual
    assert sys.getswitchinterval() == usual


def test_a_pass_that_fails_restores_them():
    usual = sys.getswitchinterval()
    with pytest.raises(ZeroDivisionError), short_turns():
        raise ZeroDivisionError
    assert sys.getswitchinterval() == usual


def test_shorter_turns_of_the_project_stay():
    usual = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    try:
        with short_turns():
            assert sys.getswitchinterval() == pytest.approx(0.0001, rel=0.05)
    finally:
        sys.setswitchinterval(usual)
