"""`manage.py socket_schema`: write the AsyncAPI document of the sockets, or types of TypeScript."""

from __future__ import annotations

import shlex
import subprocess
from argparse import SUPPRESS
from collections.abc import Mapping
from difflib import unified_diff
from pathlib import Path
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.autoreload import get_child_arguments, iter_all_python_module_files

from rest_channels.management import applications
from rest_channels.management.code_changes import follow_code
from rest_channels.schema.asyncapi import asyncapi
from rest_channels.schema.description import describe
from rest_channels.schema.formats import WRITERS
from rest_channels.schema.typescript import typescript
from rest_channels.schema.typescript_components import UnknownComponent

_BY_SUFFIX: Final = {".json": "json", ".yaml": "yaml", ".yml": "yaml", ".ts": "ts"}


class Command(BaseCommand):
    help = (
        "Write the project's sockets as an AsyncAPI document or as types of TypeScript. With "
        "--check, compare them with a file; with --watch, follow the code."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--format",
            choices=[*WRITERS, "ts"],
            help="json unless given, or what the suffix of FILE stands for.",
        )
        parser.add_argument("--application", metavar="PATH", help=applications.HELP)
        parser.add_argument(
            "--server",
            action="append",
            default=[],
            metavar="URL",
            help="The URL of a server, such as wss://example.com; may be given several times.",
        )
        files = parser.add_mutually_exclusive_group()
        files.add_argument(
            "--check",
            metavar="FILE",
            type=Path,
            help="Write nothing, and fail if FILE differs from what would be written.",
        )
        files.add_argument(
            "--output",
            metavar="FILE",
            type=Path,
            help="Write to FILE, unless it has the same text already.",
        )
        parser.add_argument(
            "--watch",
            action="store_true",
            help="Write --output again after each change of the code, until interrupted.",
        )
        # --watch starts a process of its own for each change.
        parser.add_argument("--list-modules", action="store_true", help=SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        check, output = options["check"], options["output"]
        if options["watch"] and output is None:
            raise CommandError("--watch needs a file to write: add --output FILE")
        if options["list_modules"]:
            self._write_and_list_modules(options)
        elif options["watch"]:
            self._follow(output)
        elif check is not None:
            self._compare(check, _text(options), f"{_command(options)} --output {check}")
        elif output is not None:
            self.stdout.write(_write(output, _text(options)))
        else:
            self.stdout.write(_text(options), ending="")

    def _compare(self, path: Path, text: str, command: str) -> None:
        if not path.exists():
            raise CommandError(f"{path} does not exist. Write it: {command}")
        found = path.read_text(encoding="utf-8")
        if found == text:
            return
        lines = unified_diff(
            found.splitlines(keepends=True),
            text.splitlines(keepends=True),
            str(path),
            "the project's sockets",
        )
        self.stderr.write("".join(lines), ending="")
        raise CommandError(f"{path} is out of date. Write it again: {command}")

    def _follow(self, output: Path) -> None:
        command = [*get_child_arguments(), "--list-modules"]

        def generate() -> list[Path]:
            # Its stderr, such as a traceback, is that of this process.
            run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if run.returncode:
                self.stderr.write(f"{output} stays as it is until that is mended.")
            return [Path(line) for line in run.stdout.splitlines()]

        follow_code(generate)

    def _write_and_list_modules(self, options: Mapping[str, Any]) -> None:
        try:
            self.stderr.write(_write(options["output"], _text(options)), self.style.SUCCESS)
        finally:
            self.stdout.write("\n".join(map(str, iter_all_python_module_files())))


def _text(options: Mapping[str, Any]) -> str:
    root = applications.load(options["application"])
    applications.sockets_of(root, "socket_schema --application project.asgi.application")
    description = describe(root)
    kind = _kind(options)
    if kind != "ts":
        return WRITERS[kind](asyncapi(description, options["server"]))
    try:
        return typescript(description)
    except (ImproperlyConfigured, UnknownComponent) as error:
        raise CommandError(str(error)) from error


def _kind(options: Mapping[str, Any]) -> str:
    file = options["check"] or options["output"]
    found: str | None = options["format"] or (file and _BY_SUFFIX.get(file.suffix))
    return found or "json"


def _write(path: Path, text: str) -> str:
    """
    Write `text`, and return a message about it.

    A file that has it already keeps its time, so that no front end is built again.
    """
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return f"{path} is up to date."
    if not path.parent.is_dir():
        raise CommandError(f"{path.parent} is not a folder. Make it, or name another --output.")
    # A reader finds the whole text or the former one.
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8", newline="\n")
    new.replace(path)
    return f"Wrote {path}"


def _command(options: Mapping[str, Any]) -> str:
    """Return the command that writes what is checked."""
    words = ["python", "manage.py", "socket_schema", "--format", _kind(options)]
    if options["application"]:
        words += ["--application", options["application"]]
    for server in options["server"]:
        words += ["--server", server]
    return shlex.join(words)
