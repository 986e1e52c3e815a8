"""The benchmarks run: on the smallest of everything, whatever the figures."""

from __future__ import annotations

import sys

import pytest

from benchmarks import __main__ as command
from benchmarks import storms
from benchmarks.fanout import watching
from benchmarks.running import fill, medians, serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="They read /proc.")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_SQLITE", str(tmp_path_factory.mktemp("bench") / "bench.sqlite3"))
        fill("sqlite")
        with serving("rest_channels", "sqlite", {}, site="benchmarks.live_site") as server:
            yield server


def test_saves_are_counted_until_all_subscribers_have_them(server):
    with watching([server], 5) as watchers:
        paced = watchers.ask("paced", 0.05, 2)
        assert paced["count"] == 5 * paced["saves"]
        assert (paced["lost"], paced["p50"] > 0) == (0, True)
        for command in ("burst", "together"):
            found = watchers.ask(command, 6, 6)
            assert (found["count"], found["lost"], found["wrong"]) == (30, 0, 0)
        assert watchers.ask("stats")["deliveries"] >= 60


def test_audiences_rows_and_those_who_come_back(server):
    found = storms.call(server, "audiences", 3)
    assert found["audiences"] == 3
    assert 5 < found["queries"] < 30
    assert storms.call(server, "rows", 10)["p50"] > 0
    assert storms.call(server, "resume", 5)["passes"] > 0


def test_medians_of_turns():
    given = iter([1, 5, 6, 2, 3, 7])
    asked = []

    def figures(subject):
        asked.append(subject)
        return {"p50": next(given), "count": 9}

    assert medians("ab", 3, figures) == {"a": {"p50": 2}, "b": {"p50": 6}}
    assert asked == ["a", "b", "b", "a", "a", "b"]


def test_quick_is_less_of_everything(monkeypatch):
    seen = []
    monkeypatch.setattr(command, "PARTS", {"fanout": seen.append})
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick", "--only", "fanout"])
    command.main()
    assert vars(seen[0]).items() >= command.QUICK.items()
