"""
Run the jobs of CI, four at a time: `python3 .ci/jobs.py [TITLE...]`.

Each is a `make` target with variables of its own. The output of a job is printed once it has ended,
and the times of all come last, with the processor time of each and its children. The exit status is
1 if a job failed, or if a test was skipped: this machine has all services.

A few tests wait by the clock, and fail if the job beside theirs takes the processor. So if at most
`MOST_TO_REPEAT` tests of a job failed, they run once more when nothing else does. A test that fails
alone fails the job; one that passes alone is named at the end, as a defect of the test.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

# Two for each of this machine's processors, because a job waits for servers half of its time.
AT_ONCE = 4

# More failures than this, of thousands of tests, have another reason than timing.
MOST_TO_REPEAT = 10

# pytest's last line of a run in which tests failed, and its list of them.
SUMMARY = re.compile(r"^=+ (\d+) failed, \d+ passed.* in .*=+$", re.MULTILINE)
FAILED = re.compile(r"^FAILED (\S.*?)(?: - .*)?$", re.MULTILINE)

# pytest's summary of skipped tests.
SKIPPED = re.compile(r"^SKIPPED.*|^.*\b\d+ skipped\b.*", re.MULTILINE)


@dataclass(frozen=True)
class Job:
    title: str
    command: str
    variables: dict[str, str] = field(default_factory=dict)


def suite(title: str, target: str, database: str, tests: str = "", **variables: str) -> Job:
    # Jobs run side by side, and each remembers which of its own tests failed.
    cache = "build/pytest-" + re.sub(r"\W+", "-", title)
    arguments = f"--durations=20 -o cache_dir={cache} {tests}"
    return Job(
        title, f"make {target}", {"TEST_DATABASES": database, "ARGS": arguments, **variables}
    )


# Python's development mode slows the tests, most of all random programs.
FAST = {"PYTHONDEVMODE": ""}

# A run of the suite that leaves most random programs and frames to others.
FEWER = {"TEST_PROGRAMS": "50", "FUZZ_FRAMES": "1000"}
FEW = {**FEWER, **FAST}

# One variant of each parametrised test: other runs on SQLite and PostgreSQL have all.
ONE_OF_EACH = {**FEW, "TEST_VARIANTS": "1"}

# Tests of code for which a Python and a Django between the two may differ from both.
SOME = (
    "tests/differential tests/live/capture/test_capture_matrix.py tests/whole/test_versions.py "
    "tests/contrib/dcrf/test_hosting.py"
)

# Python's development mode warns of what the newest versions deprecate, and of what is left open.
# One job runs these in it, and the other job of the newest versions leaves them out.
DEVELOPMENT = ["tests/sockets", "tests/consumers", "tests/contrib", "tests/bus", "tests/test"]

# Tests in Chromium and of whole projects, which a run on PostgreSQL leaves out.
CHROMIUM = [
    *["tests/whole/test_demo.py", "tests/whole/test_readme.py", "tests/whole/test_docs.py"],
    *["tests/whole/test_benchmarks.py", "tests/whole/test_installed_client.py"],
    *["tests/whole/test_kanban.py", "tests/console/test_in_browser.py"],
]

WITHOUT_CHROMIUM = " ".join(f"--ignore={path}" for path in CHROMIUM)

WITHOUT_DEVELOPMENT = " ".join(f"--ignore={path}" for path in DEVELOPMENT)

# Random programs, a thousand of each kind, and other tests that one run is enough for.
LONG = f"-m 'programs or once' {WITHOUT_CHROMIUM}"

# The suite on PostgreSQL, with hundreds of random programs, in two jobs of about the same length.
LIVE = "-m 'not once or only_on' tests/live"
NOT_LIVE = f"-m 'not once or only_on' --ignore=tests/live {WITHOUT_CHROMIUM}"

# The suite without them.
SHORT = f"-m 'not (programs or once)' {WITHOUT_CHROMIUM}"
IN_DEVELOPMENT = f"{SHORT} {' '.join(DEVELOPMENT)}"

# The longest first, so that no job runs alone at the end.
JOBS = [
    suite("PostgreSQL, tests/live", "test", "postgresql", LIVE, **FAST),
    suite("newest versions, SQLite", "newest", "sqlite", f"{SHORT} {WITHOUT_DEVELOPMENT}", **FEW),
    suite("long tests, SQLite", "newest", "sqlite", LONG, **FAST),
    suite("newest versions, PostgreSQL", "newest", "postgresql", SHORT, **ONE_OF_EACH),
    suite("oldest versions", "oldest", "sqlite", SHORT, **ONE_OF_EACH),
    suite("PostgreSQL, the rest", "test", "postgresql", NOT_LIVE, **FAST),
    suite("newest versions, SQLite, development mode", "newest", "sqlite", IN_DEVELOPMENT, **FEWER),
    suite("Chromium", "test", "sqlite", " ".join(CHROMIUM), **FAST),
    suite("Python 3.13, Django 6.0", "python3.13", "sqlite", SOME, **ONE_OF_EACH),
    suite("Python 3.12, Django 6.0", "python3.12", "sqlite", SOME, **ONE_OF_EACH),
    Job("instructions of a retrieve", "make instructions"),
    Job("JavaScript client", "make js-test"),
    Job("docs", "make docs docs-test"),
    Job("lint", "make lint"),
]


@dataclass(frozen=True)
class Result:
    job: Job
    seconds: float
    status: int
    output: str
    #: Seconds of a processor that the job took, with all processes that it waited for.
    cpu_seconds: float = 0.0

    def is_good(self) -> bool:
        return self.status == 0 and not SKIPPED.search(self.output)


_printing = threading.Lock()


def run(job: Job) -> Result:
    began = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(
            job.command.split(),
            env={**os.environ, **job.variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, ended_as, used = os.wait4(process.pid, 0)
        status = process.returncode = os.waitstatus_to_exitcode(ended_as)
        output.seek(0)
        seconds = time.monotonic() - began
        cpu_seconds = used.ru_utime + used.ru_stime
        result = Result(job, seconds, status, output.read(), cpu_seconds)
    with _printing:
        print(f"\n=== {job.title} ===\n{result.output}", flush=True)
    return result


def repeat_failures(result: Result) -> Result:
    """Run the failed tests of `result` alone; return what became of them."""
    arguments = result.job.variables["ARGS"] + " --last-failed --last-failed-no-failures=none"
    again = Job(
        f"{result.job.title}: failed tests, alone",
        result.job.command,
        {**result.job.variables, "ARGS": arguments},
    )
    return run(again)


def may_repeat(result: Result) -> bool:
    """
    Return whether so few tests failed that another job may have been the reason.

    A skipped test fails its job whatever the others do, so nothing is repeated then. Nor is a job
    of several targets.
    """
    summary = SUMMARY.search(result.output)
    is_few = summary is not None and int(summary[1]) <= MOST_TO_REPEAT
    return is_few and "ARGS" in result.job.variables and not SKIPPED.search(result.output)


def can_run(job: Job) -> bool:
    """Return False only for Python 3.12, which no release of Debian has."""
    if "python3.12" not in job.command:
        return True
    return subprocess.run([".ci/python", "3.12"], capture_output=True, check=False).returncode == 0


def main(titles: list[str]) -> int:
    jobs = [job for job in JOBS if can_run(job) and (not titles or job.title in titles)]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        results = list(threads.map(run, jobs))
    unsteady = []
    for number, result in enumerate(results):
        if may_repeat(result):
            again = repeat_failures(result)
            if again.is_good():
                results[number] = replace(
                    again,
                    seconds=result.seconds + again.seconds,
                    cpu_seconds=result.cpu_seconds + again.cpu_seconds,
                )
                unsteady += FAILED.findall(result.output)
    print()
    for result in results:
        verdict = "" if result.is_good() else "  FAILED"
        times = f"{result.seconds:5.0f} s  {result.cpu_seconds:5.0f} s of a processor"
        print(f"{times}  {result.job.title}{verdict}")
    for name in unsteady:
        print(f"Failed beside another job and passed alone: {name}")
    for job in JOBS:
        if not can_run(job):
            print(f"Not tested: {job.title}")
    for result in results:
        for line in SKIPPED.findall(result.output):
            print(f"No test may be skipped here: {line} ({result.job.title})")
    return 0 if all(result.is_good() for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
