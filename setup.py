"""
The long description of the package: README.md with links that work outside of the repository.

A package index shows the README without the files beside it. A relative link becomes an absolute
one below the `Source` of `project_urls` in setup.cfg; while the project has no public address, its
text is left, and pictures are left out. Everything else is in setup.cfg.
"""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent


def long_description(readme: str, source: str | None) -> str:
    """Return `readme` with links that work elsewhere; `source` is the address of its repository."""

    def outside(link: re.Match[str]) -> str:
        is_picture, text, target = bool(link[1]), link[2], link[3]
        if source is None:
            return "" if is_picture else text
        # A page about a picture is not a picture.
        kind = "raw" if is_picture else "blob"
        return f"{link[1]}[{text}]({source.rstrip('/')}/{kind}/main/{target})"

    return re.sub(r"(!?)\[([^\]]+)\]\((?!\w+:|#)([^)]+)\)", outside, readme)


def project_url(name: str) -> str | None:
    """Return a line of `project_urls` in setup.cfg; None if it has none of that name."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config.get("metadata", "project_urls", fallback="").strip().splitlines()
    return dict(re.split(r"\s*=\s*", line, maxsplit=1) for line in lines).get(name)


if __name__ == "__main__":
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    setup(
        long_description=long_description(readme, project_url("Source")),
        long_description_content_type="text/markdown",
    )
