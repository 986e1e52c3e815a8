"""Doing something again whenever the project's code changes, as `runserver` starts again."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from django.utils.autoreload import StatReloader, file_changed, iter_all_python_module_files

# Installed packages do not change while one works on a project, and neither does Python.
_INSTALLED: Final = {"site-packages", "dist-packages"}
_PYTHON: Final = Path(sysconfig.get_path("stdlib"))


def follow_code(generate: Callable[[], Iterable[Path]]) -> None:
    """
    Call `generate` now and after each change of a Python file, until the process is interrupted.

    `generate` reads the code in a process of its own, which knows no earlier state of it, and
    returns the files that it has read. Their directories are watched, and so are those of the
    modules of this process.
    """
    reloader = StatReloader()
    changed: set[Path] = set()

    def note(file_path: Path, **kwargs: Any) -> bool:
        changed.add(file_path)
        return True  # handled: this process goes on

    watch_new(reloader, iter_all_python_module_files())
    ticks = reloader.tick()
    file_changed.connect(note)
    try:
        # The first one takes note of the files as they are, so that no change is missed.
        next(ticks)
        while True:
            changed.clear()
            are_new = watch_new(reloader, generate())
            next(ticks)
            # A file may have changed after it was read, and before it was watched.
            while not (changed or are_new):
                next(ticks)
    except KeyboardInterrupt:
        return
    finally:
        file_changed.disconnect(note)


def watch_new(reloader: StatReloader, files: Iterable[Path]) -> bool:
    """Watch the directories of files of the project; return whether any was not watched before."""
    found = {
        file.parent
        for file in files
        if not _INSTALLED.intersection(file.parts) and not file.is_relative_to(_PYTHON)
    }
    fresh = found - reloader.directory_globs.keys()
    for directory in fresh:
        reloader.watch_dir(directory, "*.py")
    return bool(fresh)
