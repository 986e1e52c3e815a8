"""
Servers under load, one process each: started, measured in turns, compared.

All servers run at once. A round sends each the same requests for some seconds, in turn; the output
has medians over the rounds and their ratios. On a machine with two processors, servers and client
have one each.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from tests.support.killable_services import free_port

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    """One uvicorn process."""

    subject: str
    port: int
    process: subprocess.Popen[str]

    def resident_kib(self, *, peak: bool = False) -> int:
        name = "VmHWM" if peak else "VmRSS"
        with open(f"/proc/{self.process.pid}/status") as status:
            line = next(line for line in status if line.startswith(name))
        return int(line.split()[1])


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process so far: all threads, user and system time."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def pinned(cpu: int) -> list[str]:
    return ["taskset", "-c", str(cpu)] if (os.cpu_count() or 1) > 1 else []


@contextlib.contextmanager
def serving(
    subject: str,
    database: str,
    settings: dict[str, Any],
    fields: int = 0,
    *,
    site: str = "benchmarks.site",
    cpu: int = 0,
    port: int = 0,
    log: IO[str] | None = None,
    **environment: str,
) -> Iterator[Server]:
    """
    Start a server of `subject`, with `environment` added to its process's environment.

    It has a free port if `port` is 0, and writes to `log`, if that is given.
    """
    port = port or free_port()
    process = subprocess.Popen(
        [*pinned(cpu), sys.executable, "-m", "uvicorn", f"{site}:application", "--factory"]
        + ["--port", str(port), "--log-level", "info", "--no-access-log", "--lifespan", "off"],
        env={
            **os.environ,
            "BENCH_SUBJECT": subject,
            "BENCH_DATABASE": database,
            "BENCH_SETTINGS": json.dumps(settings),
            "BENCH_FIELDS": str(fields),
            **environment,
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if "Uvicorn running" in line:
            break
    else:
        raise RuntimeError("".join(seen))
    # Later output would fill the pipe.
    drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=log or subprocess.DEVNULL)
    try:
        yield Server(subject, port, process)
    finally:
        process.terminate()
        process.wait()
        drain.wait()
        process.stderr.close()


def fill(database: str, **environment: str) -> None:
    """Make the tables and rows, with `environment` added to that of the process that does."""
    environment = {**os.environ, **environment}
    if database == "postgresql":
        create = ["psql", "-qh", os.environ.get("PGHOST", "127.0.0.1"), "-U", "postgres"]
        name = environment.get("BENCH_POSTGRESQL", "rest_channels_bench")
        subprocess.run(
            [*create, "-c", f'CREATE DATABASE "{name}"'],
            env=environment,
            stderr=subprocess.DEVNULL,
        )
    subprocess.run(
        [sys.executable, "-c", "from benchmarks.site import fill; fill()"],
        env={**environment, "BENCH_DATABASE": database},
        check=True,
    )


def ask(server: Server, kind: str, options: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Load one server; return its figures, with the processor time of a request."""
    arguments = [f"--{name}={value}" for name, value in options.items()]
    run = subprocess.run(
        [*pinned(1), sys.executable, "-m", "benchmarks.client", str(server.port), kind]
        + [f"--seconds={seconds}", f"--pid={server.process.pid}", *arguments],
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise RuntimeError(f"{server.subject}, {kind}: {run.stderr[-2000:]}")
    return json.loads(run.stdout)


def compare(
    servers: list[Server], kind: str, options: dict[str, Any], rounds: int, seconds: float
) -> dict[str, dict[str, float]]:
    """Return medians over rounds in which every server has its turn."""
    by_subject = {server.subject: server for server in servers}
    return medians(
        by_subject, rounds, lambda subject: ask(by_subject[subject], kind, options, seconds)
    )


def medians(
    subjects: Iterable[str], rounds: int, figures: Callable[[str], dict[str, Any]]
) -> dict[str, dict[str, float]]:
    """Return medians of `figures`, measured in turns; every other round reverses the order."""
    turn = list(subjects)
    found: dict[str, list[dict[str, Any]]] = {subject: [] for subject in turn}
    for _ in range(rounds):
        for subject in turn:
            found[subject].append(figures(subject))
        turn.reverse()
    return {
        subject: {
            name: statistics.median(figure[name] or 0 for figure in of)
            for name in of[0]
            if name != "count"
        }
        for subject, of in found.items()
    }


def show(
    title: str, found: dict[str, dict[str, float]], *, against: str = "dcrf", unit: str = "req/s"
) -> None:
    print(f"\n{title}")
    print(f"  {'':14} {unit:>8} {'p50 ms':>8} {'p99 ms':>8} {'cpu us':>8}   against {against}")
    base = found.get(against)
    for subject, m in found.items():
        line = (
            f"  {subject:14} {m['throughput']:8.0f} {1e3 * m['p50']:8.2f} {1e3 * m['p99']:8.2f} "
            f"{m['cpu_us']:8.0f}"
        )
        if base and base["throughput"] and m["p99"] and subject not in (against, "echo"):
            line += (
                f"   {m['throughput'] / base['throughput']:5.2f} x throughput, "
                f"{base['p99'] / m['p99']:5.2f} x lower p99"
            )
        if m["client_busy"] > 0.8:
            line += f"   (the client is busy: {m['client_busy']:.0%} of a processor)"
        print(line, flush=True)
