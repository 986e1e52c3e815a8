"""
Run the tests on every database there is: `python -m tests [pytest's arguments]`.

SQLite always; PostgreSQL too where it answers, unless TEST_DATABASES names the ones to take. What
is not there is said at the end, and is an error with REQUIRE_SERVICES=1.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests import services


def main(arguments: list[str]) -> int:
    absent = services.absent()
    if absent and services.are_required():
        print(f"REQUIRE_SERVICES is set, but these are absent: {'; '.join(absent)}")
        return 1
    there = ["sqlite"] + (["postgresql"] if services.has_postgresql() else [])
    databases = os.environ.get("TEST_DATABASES", " ".join(there)).split()
    status = 0
    for database in databases:
        print(f"\n=== {database} ===", flush=True)
        run = subprocess.run(
            # -r s: say what was skipped, and why.
            [sys.executable, "-X", "dev", "-m", "pytest", "-r", "s", *arguments],
            env={**os.environ, "TEST_DATABASE": database},
        )
        status = status or run.returncode
    for reason in absent:
        print(f"Not tested: {reason}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
