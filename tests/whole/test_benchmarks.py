"""The benchmarks run: on the smallest of everything, whatever the figures."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys

import pytest

from benchmarks import __main__ as command
from benchmarks import instructions, soak, soak_clients, storms
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
    assert 1 < found["queries"] < 30
    assert storms.call(server, "rows", 10)["p50"] > 0
    assert storms.call(server, "resume", 5)["passes"] > 0


def test_windows_over_many_rows(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.windows", "--rows", "1100", "--subscribers", "2"]
        + ["--times", "1"],
        env={**os.environ, "BENCH_SQLITE": str(tmp_path / "bench.sqlite3")},
        capture_output=True,
        text=True,
        check=True,
    )
    title, *lines = run.stdout.splitlines()
    assert title == "sqlite, 1100 rows"
    assert all("2 subscribers" in line and "queries" in line for line in lines)
    assert ["plain" in line for line in lines] == [False, True] * 4 + [False]
    rendered = [int(line.split()[-3]) for line in lines]
    assert rendered == [50, 1_100, 1, 1, 0, 1, 1, 1, 50]


def test_watches_beside_polling(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.watches", "--clients", "3", "--seconds", "1"]
        + ["--writes", "2"],
        env={**os.environ, "BENCH_SQLITE": str(tmp_path / "bench.sqlite3")},
        capture_output=True,
        text=True,
        check=True,
    )
    title, *lines = run.stdout.splitlines()
    assert title == "3 clients, 2 writes a second; each second:"
    assert len(lines) == 4
    assert all("cpu_ms" in line and "queries" in line for line in lines)
    # One run serves the clients of all users, if it is proven to answer them alike.
    shared, apart = (float(re.search(r"'runs': ([\d.]+)", line)[1]) for line in lines[2:])
    assert 0 < shared < apart


def test_the_schema_of_many_viewsets():
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.schema", "--viewsets", "2", "--rounds", "1"],
        capture_output=True,
        text=True,
        check=True,
    )
    title, *lines = run.stdout.splitlines()
    assert title.startswith("schema of 2 viewsets, ")
    assert [line.split()[0] for line in lines] == ["description", "document", "JSON", "both"]


@pytest.mark.once
@pytest.mark.timeout(300)
def test_a_soak_of_seconds_comes_to_rest_with_nothing_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(soak, "FOLDER", tmp_path)
    monkeypatch.setattr(soak, "SAMPLE_SECONDS", 1.0)
    monkeypatch.setattr(soak, "DISTURBANCE_SECONDS", (0.5, 1.0))
    monkeypatch.setattr(
        sys, "argv", ["benchmarks", "soak", "--minutes", "0.1", "--soak-clients", "12"]
    )
    command.main()
    assert capsys.readouterr().out.endswith("verdict: all is right\n")
    report = json.loads((tmp_path / "soak.json").read_text())
    assert report["disturbances"] and not report["faults"]
    last = report["samples"][-1]
    assert last["writes"] > 0 and last["events"] > 0
    assert "never killed" in (tmp_path / "soak.svg").read_text()


def test_a_client_that_holds_other_rows_is_found_at_rest():
    class Client:
        author, state = 3, "connected"

        def __init__(self, is_right):
            self.is_right = is_right

        async def holds_what_a_request_returns(self):
            return self.is_right

    found = asyncio.run(soak_clients.settled([Client(True), Client(False)], 0))
    assert found == ["Client of author 3: connected"]


def test_a_row_that_goes_back_is_a_fault():
    heard = soak_clients.Heard()
    client = soak_clients.ListClient(0, 0, heard)
    assert client.note("#2# 1764385200.0", client.note("#1# 1764385100.0", 0)) == 2
    assert heard.faults == []
    client.note("#1# 1764385100.0", 2)
    assert heard.faults == ["A row went back from write 2 to 1."]


@pytest.mark.parametrize(("last_mib", "is_wrong"), [(109, False), (111, True)])
def test_memory_that_grows_is_a_fault(last_mib, is_wrong):
    mib = [100] * 36 + [last_mib] * 12
    samples = [soak.Sample(0, [1024 * size], [0.0], 0, 0, None, None) for size in mib]
    assert bool(soak.growth_faults(samples)) is is_wrong


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


@pytest.mark.parametrize(("times", "is_allowed"), [(0.9, True), (1.04, True), (1.06, False)])
def test_a_retrieve_may_not_become_dearer_by_more_than_five_percent(monkeypatch, times, is_allowed):
    ours = instructions.LAST_RATIO * times
    found = {"rest_channels": {"retrieve": ours}, "drf": {"retrieve": 1.0}}
    monkeypatch.setattr(instructions, "measured", lambda subjects, kinds: found)
    if is_allowed:
        instructions.guard()
    else:
        with pytest.raises(SystemExit, match="dearer"):
            instructions.guard()


# Each subject is a process: it is chosen when the site is imported.
ASK_ONCE = """
import asyncio, sys
from benchmarks.counting import FRAMES, over_socket
with asyncio.Runner() as loop:
    for kind in sys.argv[1:]:
        over_socket(kind, loop)(1)
"""


@pytest.mark.once
@pytest.mark.parametrize("subject", ["rest_channels", "dcrf", "plain"])
def test_every_subject_answers_the_frames_that_are_counted(subject, tmp_path):
    kinds = instructions.KINDS.keys() - {
        *instructions.LIVE,
        *instructions._NOT_ASKED.get(subject, ()),
    }
    environment = {
        **os.environ,
        "BENCH_SUBJECT": subject,
        "BENCH_SQLITE": str(tmp_path / "bench.sqlite3"),
    }
    filled = "from benchmarks.site import fill; fill()\n"
    asked = [sys.executable, "-c", filled + ASK_ONCE, *sorted(kinds)]
    run = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]


def test_ratios_of_instructions_are_ours_to_each_of_the_others(capsys):
    instructions.show({"rest_channels": {"idle": 30_000, "event": 5e6}, "drf": {"idle": 20_000}})
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["idle", "30", "20"] in rows and ["event", "5,000"] in rows
    assert ["idle", "1.00", "x", "1.50", "x"] in rows
