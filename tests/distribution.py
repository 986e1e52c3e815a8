"""What setup.cfg says of the distribution."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _setup() -> configparser.ConfigParser:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    return setup


def name() -> str:
    return _setup()["metadata"]["name"]


def lower_bounds() -> dict[str, str]:
    """The oldest version of each requirement."""
    return dict(re.findall(r"^([\w-]+)>=([\d.]+)", _setup()["options"]["install_requires"], re.M))


def python_versions() -> list[str]:
    """The Python versions that the classifiers name."""
    return re.findall(r"Python :: (3\.\d+)", _setup()["metadata"]["classifiers"])


def extras() -> set[str]:
    return set(_setup()["options.extras_require"])
