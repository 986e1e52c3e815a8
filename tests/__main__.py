"""
Run the tests on every database there is: `python -m tests [pytest's arguments]`.

SQLite always; PostgreSQL too where it answers, unless TEST_DATABASES names the ones to take. They
run side by side, each on a processor if there are as many; what the second says is printed once
the first has ended. The first runs in Python's development mode, unless PYTHONDEVMODE says
otherwise. Absent services are listed at the end, and are an error with
REQUIRE_SERVICES=1.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from typing import IO, Any

from tests.support import available_services


def main(arguments: list[str]) -> int:
    absent = available_services.absent()
    if absent and available_services.are_required():
        print(f"REQUIRE_SERVICES is set, but these are absent: {'; '.join(absent)}")
        return 1
    there = ["sqlite"] + (["postgresql"] if available_services.has_postgresql() else [])
    databases = os.environ.get("TEST_DATABASES", " ".join(there)).split()
    with contextlib.ExitStack() as stack:
        runs = []
        for database in databases:
            output = stack.enter_context(tempfile.TemporaryFile("w+")) if runs else None
            runs.append((database, begin(database, arguments, output), output))
        status = max([finish(*run) for run in runs], default=0)
    for reason in absent:
        print(f"Not tested: {reason}")
    return status


def finish(database: str, run: subprocess.Popen[Any], output: IO[str] | None) -> int:
    """Wait for the end of a run, whose output is printed by itself or kept in `output`."""
    print(f"\n=== {database} ===", flush=True)
    status = run.wait()
    if output is not None:
        output.seek(0)
        print(output.read(), flush=True)
    return abs(status)


def begin(database: str, arguments: list[str], output: IO[str] | None) -> subprocess.Popen[Any]:
    development = {} if output is not None else {"PYTHONDEVMODE": "1"}
    return subprocess.Popen(
        # -r fEs: end with the names of what failed, and with what was skipped, and why.
        [sys.executable, "-m", "pytest", "-r", "fEs", *arguments],
        env={**development, **os.environ, "TEST_DATABASE": database},
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
