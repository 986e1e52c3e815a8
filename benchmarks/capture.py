"""
What capture costs the writer: rows saved a second, and statements that write many, with each mode
of CAPTURE and with none.

`python -m benchmarks.capture [sqlite] [postgresql]`. One process for each database, nobody
subscribes. A round measures all modes in turn; printed are medians over the rounds, and how they
compare to no capture.
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
from typing import Any

from benchmarks.running import pinned

MODES = [None, "signals", "triggers"]
ROWS = 10_000

# By what is measured: how many times what it costs without.
TARGETS = {
    "save() of a row, autocommit": ("signals", 1 / 0.75),
    "UPDATE of 10,000 rows": ("triggers", 4),
}


def run(options: argparse.Namespace) -> None:
    """One process for each of `options.databases`."""
    for database in options.databases:
        arguments = [database, f"--rounds={options.rounds}", f"--seconds={options.seconds}"]
        subprocess.run(
            [*pinned(1), sys.executable, "-m", "benchmarks.capture", "--here", *arguments],
            check=True,
        )


# In the process that writes


@contextmanager
def database(kind: str) -> Iterator[dict[str, Any]]:
    """A database that is there as long as it is needed."""
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

    from rest_channels.live import log, triggers

    with override_settings(REST_CHANNELS={"CAPTURE": mode}):
        triggers.sync("default")
        yield
        log.pending("default")._raw_delete("default")


def saves(seconds: float, save: Callable[[int], Any]) -> float:
    """Seconds of one of many calls, made for so long."""
    end, count = time.perf_counter() + seconds, 0
    started = time.perf_counter()
    while (now := time.perf_counter()) < end:
        save(count)
        count += 1
    return (now - started) / count


def measurements(seconds: float) -> dict[str, Callable[[], float]]:
    """What is measured, and how: seconds of one call or statement."""
    from django.db import connection, transaction

    from benchmarks.messages.models import Message

    messages = list(Message.objects.order_by("pk")[:100])

    def save(count: int) -> None:
        messages[count % 100].save()

    def create(count: int) -> None:
        Message.objects.create(author_id=messages[0].author_id, text="new")

    def save_together() -> float:
        with transaction.atomic():
            return saves(seconds, save)

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
    return {
        "save() of a row, autocommit": lambda: saves(seconds, save),
        "create() of a row, autocommit": lambda: saves(seconds, create),
        "save() of a row in a transaction": save_together,
        "UPDATE of 1 row": statement(f"{update} + 1"),
        "UPDATE of 1,000 rows": statement(f"{update} + 1000"),
        "UPDATE of 10,000 rows": statement(f"{update} + {ROWS}"),
    }


def tidy() -> None:
    """What the rounds before have left is no round's burden."""
    from django.db import connection

    from benchmarks.messages.models import Message

    newest = Message.objects.order_by("pk").values_list("pk", flat=True)[ROWS - 1]
    Message.objects.filter(pk__gt=newest)._raw_delete("default")
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("VACUUM ANALYZE")


Found = dict[str, dict[str | None, list[float]]]


def measure(rounds: int, seconds: float) -> Found:
    """Seconds, a round each, by what is measured, and mode."""
    found: Found = defaultdict(lambda: defaultdict(list))
    for number in range(rounds):
        # Not always the same comes first.
        for mode in MODES[number % 3 :] + MODES[: number % 3]:
            with captured(mode):
                for name, run_it in measurements(seconds).items():
                    tidy()
                    found[name][mode].append(run_it())
    return found


def ratio(times: list[float], without: list[float]) -> float:
    """Of what the same round took, for the machine may be busy in one and not in the next."""
    return statistics.median(a / b for a, b in zip(times, without, strict=True))


def show(kind: str, found: Found) -> None:
    print(f"\ncapture on {kind}: milliseconds, and times that without")
    print(f"{'':34}" + "".join(f"{mode or 'none':>18}" for mode in MODES))
    for name, of_mode in found.items():
        cells = (
            f"{statistics.median(of_mode[mode]) * 1e3:10.3f} "
            f"{ratio(of_mode[mode], of_mode[None]):5.2f} x"
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
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.here:
        run(options)
        return
    for kind in options.databases:
        with database(kind) as given:
            set_up(given)
            show(kind, measure(options.rounds, options.seconds))
            from django.db import connections

            connections.close_all()


if __name__ == "__main__":
    main()
