"""
Instructions a frame, counted by callgrind: figures that other load on the machine does not change.

    python -m benchmarks instructions
    python -m benchmarks.instructions --guard

The subjects:

    rest_channels, dcrf, plain   a socket of each, without a server; plain is written by hand
    view, drf                    the view that our socket serves, and the same on DRF alone, called
                                 by hand with an HTTP request that was made before
    orm                          the queries alone
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

#: The frames of each kind that are counted.
KINDS: Final = {
    "retrieve": 60,
    "list": 20,
    "update": 30,
    "create": 30,
    "refused": 40,
    "idle": 40,
    "event": 5,
    "nobody": 15,
    "group": 10,
    "pair": 50,
}
LIVE: Final = ("event", "nobody", "group", "pair")

#: The layers of channels_redis.
LAYERS: Final = ("core", "pubsub")

SUBJECTS: Final = ("rest_channels", "dcrf", "plain", "view", "drf", "orm")

#: Instructions of a retrieve over a socket, divided by those of DRF's view called by hand.
LAST_RATIO: Final = 1.10
#: How much above `LAST_RATIO` the guard lets pass.
ALLOWED: Final = 1.05

# Nothing runs by the clock, because valgrind makes time pass faster than frames.
_SETTINGS: Final = {
    "LEASE_SECONDS": 100_000,
    "POLL_SECONDS": 100_000,
    "SYNC_SECONDS": 100_000,
    "PASS_CONTEXTS": ["benchmarks.counting.noticed_pass"],
}

# Kinds that a subject has not: the consumer by hand refuses nothing, a view has no subscribers.
_NOT_ASKED: Final = {
    "plain": {"refused", "nobody"},
    "dcrf": {"nobody", "group", "pair"},
    "view": {*LIVE},
    "drf": {*LIVE},
    "orm": {"refused", "idle", *LIVE},
}


class Valgrind:
    """Runs under valgrind; the databases of the subjects are in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def instructions(
        self, subject: str, frames: dict[str, int], **environment: str
    ) -> dict[str, float]:
        """Return the instructions a frame, by kind; `frames` says how many to count of each."""
        # Only our own site captures writes.
        site = subject if subject in ("rest_channels", "plain", "dcrf") else "none"
        database = self.directory / f"{site}.sqlite3"
        environment = {
            **os.environ,
            "BENCH_SUBJECT": site,
            "BENCH_DATABASE": "sqlite",
            "BENCH_SQLITE": str(database),
            "BENCH_CONN_MAX_AGE": "100000",
            "BENCH_SETTINGS": json.dumps(_SETTINGS),
            "PYTHONHASHSEED": "0",
            **environment,
        }
        if not database.exists():
            fill = "from benchmarks.site import fill; fill()"
            subprocess.run([sys.executable, "-c", fill], env=environment, check=True)
        kinds = [f"{kind}:{number}" for kind, number in frames.items()]
        with tempfile.TemporaryDirectory(dir=self.directory) as dumps:
            valgrind = [
                *("valgrind", "-q", "--tool=callgrind", "--instr-atstart=no"),
                # Called by nothing but `mark` of benchmarks.counting.
                "--dump-before=getpriority",
                f"--callgrind-out-file={dumps}/dump",
            ]
            child = [sys.executable, "-c", "from benchmarks.counting import main; main()"]
            run = subprocess.run(
                [*valgrind, *child, subject, *kinds],
                env=environment,
                capture_output=True,
                text=True,
            )
            if run.returncode:
                raise RuntimeError(f"{subject}: {run.stderr[-3000:]}")
            totals = [_total(Path(dumps, f"dump.{n}")) for n in range(1, 4 * len(kinds) + 1)]
        return {
            kind: (totals[4 * place + 3] - totals[4 * place + 1]) / number
            for place, (kind, number) in enumerate(frames.items())
        }


def _total(dump: Path) -> int:
    """Return the instructions in a dump of callgrind's."""
    with dump.open() as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("totals:"))


def run(options: argparse.Namespace) -> None:
    """Count what is asked for, and print it."""
    is_quick = vars(options).get("quick", False)
    show(measured(SUBJECTS, ["idle"] if is_quick else KINDS))


def measured(
    subjects: Iterable[str], kinds: Iterable[str], layer: str | None = None
) -> dict[str, dict[str, float]]:
    """Return the instructions a frame, by subject and kind; `layer` is one of `LAYERS`, or None."""
    if shutil.which("valgrind") is None:
        raise SystemExit("Instructions are counted by callgrind. Install valgrind.")
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        valgrind = Valgrind(Path(directory))
        for subject in subjects:
            frames = {k: KINDS[k] for k in kinds if k not in _NOT_ASKED.get(subject, ())}
            found[subject] = {
                kind: count
                for alone in _apart(frames)
                for kind, count in valgrind.instructions(subject, alone, **on(layer)).items()
            }
    return found


def _apart(frames: dict[str, int]) -> Iterator[dict[str, int]]:
    """Yield the kinds that one process counts: a live one alone, because its sockets stay open."""
    if short := {kind: number for kind, number in frames.items() if kind not in LIVE}:
        yield short
    for kind in sorted(frames.keys() & LIVE):
        yield {kind: frames[kind]}


def on(layer: str | None) -> dict[str, str]:
    """Return the environment of a site with that layer of Redis, or with the one in memory."""
    if layer is None:
        return {}
    return {"BENCH_LAYER": layer, "BENCH_REDIS": f"rest_channels_bench_{uuid.uuid4().hex}"}


def show(found: dict[str, dict[str, float]]) -> None:
    """Print thousands of instructions, and the ratio of ours to each other subject's."""
    packages = ("Django", "djangorestframework", "channels", "djangochannelsrestframework")
    versions = [f"{name} {version(name)}" for name in packages]
    print(
        f"\ninstructions a frame, SQLite; Python {platform.python_version()}, {', '.join(versions)}"
    )
    ours = found.get(SUBJECTS[0], {})
    print(f"  {'thousands':10}" + "".join(f"{subject:>15}" for subject in found))
    for kind in KINDS:
        counts = [figures.get(kind) for figures in found.values()]
        if any(counts):
            cells = (f"{count / 1000:>15,.0f}" if count else " " * 15 for count in counts)
            print(f"  {kind:10}" + "".join(cells))
    print(f"  {'times':10}" + "".join(f"{subject:>15}" for subject in found))
    for kind, count in ours.items():
        ratios = (f"{count / f[kind]:.2f} x" if kind in f else "" for f in found.values())
        print(f"  {kind:10}" + "".join(f"{ratio:>15}" for ratio in ratios), flush=True)


def guard() -> None:
    """Raise `SystemExit` if a retrieve costs more, in units of DRF's view, than is allowed."""
    found = measured(("rest_channels", "drf"), ("retrieve",))
    show(found)
    ratio = found["rest_channels"]["retrieve"] / found["drf"]["retrieve"]
    print(f"A retrieve is {ratio:.3f} times DRF's view; last written down: {LAST_RATIO}.")
    if ratio > LAST_RATIO * ALLOWED:
        raise SystemExit(
            "A retrieve has become dearer by more than 5 %. Make it cheaper, or set LAST_RATIO in "
            "benchmarks/instructions.py to the new figure and say why in the commit."
        )


def main() -> None:
    """Count and print, or compare with the ratio written down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--guard", action="store_true", help="compare with what is written down")
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS, choices=SUBJECTS)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--layer", choices=LAYERS, help="of channels_redis; else in memory")
    options = parser.parse_args()
    if options.guard:
        guard()
    else:
        show(measured(options.subjects, options.kinds, options.layer))


if __name__ == "__main__":
    main()
