"""The versions that the README promises: those of setup.cfg, and what CI runs."""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import version
from itertools import chain

from tests.support.distribution import (
    ROOT,
    bounds_of_extra,
    django_versions,
    lower_bounds,
    oldest_python,
    python_versions,
)

#: CI's runs, by the file that states the versions; `make test` takes those of this machine.
FILES = {
    name: (ROOT / "tests" / f"{name}.txt").read_text()
    for name in ("oldest", "python3.12", "python3.13", "newest")
}


def promised() -> dict[str, list[str]]:
    """The README's table of versions."""
    table = (ROOT / "README.md").read_text().partition("## Supported versions")[2]
    rows = re.findall(r"^\| (\w[\w ]*) \| (.+) \|$", table, re.MULTILINE)
    return {name: cell.removesuffix(" and later").split(", ") for name, cell in rows}


def stated(text: str) -> dict[str, str]:
    """The versions that a file states, such as 6.1, by distribution."""
    return dict(re.findall(r"^(?:# )?([\w-]+)(?:==|~=)(\d+\.\d+)", text, re.MULTILINE))


def run_by_ci(name: str) -> list[str]:
    """The versions of `name` that CI runs, the oldest first."""
    found = {stated(text)[name] for text in FILES.values()}
    return sorted(found, key=lambda version: [int(part) for part in version.split(".")])


def test_the_readme_promises_what_setup_cfg_says():
    table, oldest = promised(), lower_bounds()
    assert table["Python"] == python_versions()
    assert table["Python"][0] == oldest_python()
    assert table["Django"] == django_versions()
    assert {name: cells[0] for name, cells in table.items()} == {
        "Python": oldest_python(),
        "Django": oldest["Django"],
        "Django REST framework": oldest["djangorestframework"],
        "Channels": oldest["channels"],
        "djangochannelsrestframework": oldest["djangochannelsrestframework"],
    }


def test_the_readme_promises_what_ci_runs():
    table = promised()
    assert run_by_ci("Python") == table["Python"]
    assert run_by_ci("Django") == table["Django"]
    assert run_by_ci("djangorestframework") == table["Django REST framework"]


def test_ci_runs_the_versions_of_each_file():
    jobs = (ROOT / ".ci" / "jobs.py").read_text()
    for name in FILES:
        assert re.search(rf'suite\(".+", "{re.escape(name)}"', jobs), name


def test_these_versions_are_those_of_their_file():
    """`make newest` says which file; `make test` runs any versions that are promised."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    running = {
        "Python": python,
        **{name: major_minor(version(name)) for name in ("Django", "djangorestframework")},
    }
    if "TEST_VERSIONS" in os.environ:
        assert running.items() <= stated((ROOT / os.environ["TEST_VERSIONS"]).read_text()).items()
    table = promised()
    assert python in table["Python"]
    assert running["Django"] in table["Django"]
    assert running["djangorestframework"] in table["Django REST framework"]


def major_minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def test_the_oldest_versions_are_the_lower_bounds():
    oldest = dict(re.findall(r"^([\w-]+)==([\d.]+)$", FILES["oldest"], re.MULTILINE))
    extras = (bounds_of_extra(name) for name in ("daphne", "filter", "redis", "uvicorn"))
    for name, bound in [*lower_bounds().items(), *chain(*map(dict.items, extras))]:
        assert oldest[name].removesuffix(".0") == bound.removesuffix(".0"), name
