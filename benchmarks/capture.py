"""
The cost of capture for the writer, with each mode of CAPTURE and without.

It measures rows saved per second, and statements that write many rows.

`python -m benchmarks.capture [sqlite] [postgresql]`. One process for each database, without
subscribers. A round measures all modes in turn. A figure is the median of a round's calls, in the
round with the least; so other work on the machine changes it little. Ratios are to no capture.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from benchmarks.running import pinned

MODES = [None, "signals", "triggers", "auto"]
ROWS = 10_000

# By measurement: the largest ratio to no capture.
TARGETS = {
    "save() of a row, autocommit": ("signals", 1 / 0.75),
    "UPDATE of 10,000 rows": ("triggers", 4),
}


def run(options: argparse.Namespace) -> None:
    """Run one process for each of `options.databases`."""
    for database in options.databases:
        arguments = [database, f"--rounds={options.rounds}", f"--seconds={options.seconds}"]
        if not vars(options).get("statements", True):
            arguments.append("--no-statements")
        if vars(options).get("processor"):
            arguments.append("--processor")
        subprocess.run(
            [*pinned(1), sys.executable, "-m", "benchmarks.capture", "--here", *arguments],
            check=True,
        )


# In the process that writes


@contextmanager
def database(kind: str) -> Iterator[dict[str, Any]]:
    """Create a database for the block."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as directory:
            yield {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": f"{directory}/capture.sqlite3",
                "OPTIONS": {
                    "transaction_mode": "IMMEDIATE",
                    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
                },
            }
        return
    import psycopg

    name = f"rest_channels_capture_{os.getpid()}"
    given = {
        "host": os.environ.get("PGHOST", "127.0.0.1"),
        "user": os.environ.get("PGUSER", "postgres"),
    }
    with psycopg.connect(dbname="postgres", autocommit=True, **given) as server:
        server.execute(f"CREATE DATABASE {name}")
        try:
            yield {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": name,
                "HOST": given["host"],
                "USER": given["user"],
            }
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def set_up(given: dict[str, Any]) -> None:
    import django
    from django.conf import settings
    from django.core.management import call_command

    settings.configure(
        SECRET_KEY="not a secret: the benchmark's own",
        USE_TZ=True,
        INSTALLED_APPS=["rest_channels", "benchmarks.messages"],
        DATABASES={"default": given},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        REST_CHANNELS={"CAPTURE": None},
        LOGGING_CONFIG=None,
    )
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)
    from benchmarks.messages.models import Author, Message

    author = Author.objects.create(name="ann")
    Message.objects.bulk_create(Message(author=author, text=f"text {n}") for n in range(ROWS))


@contextmanager
def captured(mode: str | None) -> Iterator[None]:
    from django.test import override_settings

    from rest_channels.live.capture import triggers
    from rest_channels.live.log import store

    with override_settings(REST_CHANNELS={"CAPTURE": mode}):
        triggers.sync("default")
        yield
        store.pending("default")._raw_delete("default")


def saves(seconds: float, save: Callable[[int], Any], *, processor: bool) -> float:
    """
    Return the seconds of a call, of many made for `seconds`: the median.

    `processor`: the processor time instead, of this process and of its PostgreSQL backend.
    """
    backend, now = _backend(), time.perf_counter()
    end, times, used = now + seconds, [], _used(backend)
    while now < end:
        started = now
        save(len(times))
        now = time.perf_counter()
        times.append(now - started)
    return (_used(backend) - used) / len(times) if processor else statistics.median(times)


def _backend() -> int | None:
    """Return the process that serves this one's connection to PostgreSQL; None on SQLite."""
    from django.db import connection

    if connection.vendor != "postgresql":
        return None
    connection.ensure_connection()
    pid: int = connection.connection.info.backend_pid
    return pid


def _used(backend: int | None) -> float:
    """Return the processor seconds used so far."""
    used = time.process_time()
    if backend is not None:
        with open(f"/proc/{backend}/schedstat") as schedstat:
            used += int(schedstat.read().split()[0]) / 1e9
    return used


def measurements(options: argparse.Namespace) -> dict[str, Callable[[], float]]:
    """Return functions that return the seconds of one call or statement, by measurement."""
    from django.db import connection, transaction

    from benchmarks.messages.models import Message

    messages = list(Message.objects.order_by("pk")[:100])
    many = partial(saves, options.seconds, processor=options.processor)

    def save(count: int) -> None:
        messages[count % 100].save()

    def save_fields(count: int) -> None:
        messages[count % 100].save(update_fields=["score"])

    def create(count: int) -> None:
        Message.objects.create(author_id=messages[0].author_id, text="new")

    def save_together() -> float:
        with transaction.atomic():
            return many(save)

    def statement(sql: str) -> Callable[[], float]:
        def run_it() -> float:
            times = []
            with connection.cursor() as cursor:
                for _ in range(5):
                    started = time.perf_counter()
                    cursor.execute(sql)
                    times.append(time.perf_counter() - started)
            return statistics.median(times)

        return run_it

    first, table = messages[0].pk, Message._meta.db_table
    update = f"UPDATE {table} SET score = score + 1 WHERE id >= {first} AND id < {first}"
    of_one = {
        "save() of a row, autocommit": lambda: many(save),
        "save(update_fields=...)": lambda: many(save_fields),
        "create() of a row, autocommit": lambda: many(create),
        "save() of a row in a transaction": save_together,
    }
    of_many = {
        "UPDATE of 1 row": statement(f"{update} + 1"),
        "UPDATE of 1,000 rows": statement(f"{update} + 1000"),
        "UPDATE of 10,000 rows": statement(f"{update} + {ROWS}"),
    }
    return {**of_one, **of_many} if options.statements else of_one


def tidy() -> None:
    """Delete the rows of earlier rounds, so that they do not slow down the next."""
    from django.db import connection

    from benchmarks.messages.models import Message

    newest = Message.objects.order_by("pk").values_list("pk", flat=True)[ROWS - 1]
    Message.objects.filter(pk__gt=newest)._raw_delete("default")
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("VACUUM ANALYZE")


Found = dict[str, dict[str | None, list[float]]]


def measure(options: argparse.Namespace) -> Found:
    """Return the seconds of each round, by measurement and mode."""
    found: Found = defaultdict(lambda: defaultdict(list))
    for number in range(options.rounds):
        # Each round begins with another mode.
        for mode in MODES[number % len(MODES) :] + MODES[: number % len(MODES)]:
            with captured(mode):
                for name, run_it in measurements(options).items():
                    tidy()
                    found[name][mode].append(run_it())
    return found


def show(kind: str, found: Found) -> None:
    print(f"\ncapture on {kind}: milliseconds, and ratio to no capture")
    print(f"{'':34}" + "".join(f"{mode or 'none':>18}" for mode in MODES))
    for name, of_mode in found.items():
        cells = (
            f"{min(of_mode[mode]) * 1e3:10.3f} {min(of_mode[mode]) / min(of_mode[None]):5.2f} x"
            for mode in MODES
        )
        mode, target = TARGETS.get(name, ("", 0))
        print(f"{name:34}{''.join(cells)}" + (f"   {mode}: at most {target:.2f} x" if mode else ""))
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capture", description=__doc__)
    parser.add_argument("databases", nargs="*", default=["sqlite", "postgresql"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--no-statements", dest="statements", action="store_false")
    parser.add_argument(
        "--processor", action="store_true", help="processor time, which other work changes little"
    )
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.here:
        run(options)
        return
    for kind in options.databases:
        with database(kind) as given:
            set_up(given)
            show(kind, measure(options))
            from django.db import connections

            connections.close_all()


if __name__ == "__main__":
    main()
