"""The facts of setup.cfg about the distribution."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _setup() -> configparser.ConfigParser:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    return setup


def name() -> str:
    return _setup()["metadata"]["name"]


def lower_bounds() -> dict[str, str]:
    """The oldest version of each requirement."""
    return _bounds(_setup()["options"]["install_requires"])


def bounds_of_extra(name: str) -> dict[str, str]:
    """The oldest version of each requirement that an extra adds."""
    return _bounds(_setup()["options.extras_require"][name])


def _bounds(requirements: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w-]+)(?:\[\w+\])?>=([\d.]+)", requirements, re.M))


def python_versions() -> list[str]:
    """The Python versions that the classifiers name."""
    return re.findall(r"Python :: (3\.\d+)", _setup()["metadata"]["classifiers"])


def django_versions() -> list[str]:
    """The versions of Django that the classifiers name."""
    return re.findall(r"Django :: (\d+\.\d+)", _setup()["metadata"]["classifiers"])


def oldest_python() -> str:
    """The oldest Python that may install it."""
    return _setup()["options"]["python_requires"].removeprefix(">=")


def build_wheel(directory: Path) -> Path:
    """Build the wheel in `directory`, from a copy, because a build writes beside the sources."""
    source = directory / "source"
    source.mkdir()
    for file in ["setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"]:
        shutil.copy(ROOT / file, source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "rest_channels", source / "rest_channels", ignore=ignored)
    build = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = directory.glob("*.whl")
    return wheel


def extras() -> set[str]:
    return set(_setup()["options.extras_require"])
