"""The job runner of CI: which failures it repeats, and what it says of them."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from tests.support.distribution import ROOT


@pytest.fixture
def jobs(monkeypatch):
    spec = importlib.util.spec_from_file_location("ci_jobs", ROOT / ".ci" / "jobs.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "ci_jobs", module)
    spec.loader.exec_module(module)
    return module


def result(jobs, output, status=1):
    return jobs.Result(jobs.suite("SQLite", "test", "sqlite"), 1.0, status, output)


@pytest.mark.parametrize(
    ("summary", "may_repeat"),
    [
        ("=== 2 failed, 4970 passed, 95 deselected in 900.10s (0:15:00) ===", True),
        ("=== 10 failed, 10 passed, 1 error in 9.10s ===", True),
        ("=== 11 failed, 10 passed in 9.10s ===", False),
        ("=== 2 failed, 10 passed, 1 skipped in 9.10s ===", False),
        ("=== 10 passed, 1 error in 9.10s ===", False),
        ("=== 10 passed in 9.10s ===", False),
        ("make: *** [Makefile:25: test] Error 1", False),
    ],
)
def test_few_failures_are_repeated(jobs, summary, may_repeat):
    assert jobs.may_repeat(result(jobs, f"collected\n{summary}\nmake: Error")) is may_repeat


def test_a_job_of_several_targets_is_not_repeated(jobs):
    docs = next(job for job in jobs.JOBS if job.title == "docs")
    output = "=== 2 failed, 10 passed in 9.10s ==="
    assert not jobs.may_repeat(jobs.Result(docs, 1.0, 2, output))


def test_the_names_of_failed_tests_are_found(jobs):
    output = "FAILED tests/a.py::test_b[x - y] - AssertionError: no\nFAILED tests/c.py::test_d\n"
    assert jobs.FAILED.findall(output)[1] == "tests/c.py::test_d"
    assert jobs.FAILED.findall(output)[0].startswith("tests/a.py::test_b[x")


def test_a_skipped_test_fails_its_job(jobs):
    assert result(jobs, "10 passed", status=0).is_good()
    assert not result(jobs, "10 passed, 1 skipped", status=0).is_good()
