"""`manage.py socket_schema`: write the AsyncAPI document of the sockets, or types of TypeScript."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from difflib import unified_diff
from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

from rest_channels.management import applications
from rest_channels.schema.asyncapi import asyncapi
from rest_channels.schema.description import describe
from rest_channels.schema.formats import WRITERS
from rest_channels.schema.typescript import typescript

_BY_SUFFIX: Final = {".json": "json", ".yaml": "yaml", ".yml": "yaml", ".ts": "ts"}


class Command(BaseCommand):
    help = (
        "Write the project's sockets as an AsyncAPI document or as types of TypeScript. With "
        "--check, compare them with a file."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--format",
            choices=[*WRITERS, "ts"],
            help="json unless given, or what the suffix of the file to check stands for.",
        )
        parser.add_argument("--application", metavar="PATH", help=applications.HELP)
        parser.add_argument(
            "--server",
            action="append",
            default=[],
            metavar="URL",
            help="The URL of a server, such as wss://example.com; may be given several times.",
        )
        parser.add_argument(
            "--check",
            metavar="FILE",
            type=Path,
            help="Write nothing, and fail if FILE differs from what would be written.",
        )

    def handle(
        self,
        *args: Any,
        application: str | None = None,
        server: Sequence[str] = (),
        check: Path | None = None,
        **options: Any,
    ) -> None:
        kind = options["format"] or (check and _BY_SUFFIX.get(check.suffix)) or "json"
        text = _text(kind, application, server)
        if check is None:
            self.stdout.write(text, ending="")
        else:
            self._compare(check, text, _command(kind, application, server))

    def _compare(self, path: Path, text: str, command: str) -> None:
        if not path.exists():
            raise CommandError(f"{path} does not exist. Write it: {command} > {path}")
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
        raise CommandError(f"{path} is out of date. Write it again: {command} > {path}")


def _text(kind: str, application: str | None, servers: Sequence[str]) -> str:
    root = applications.load(application)
    applications.sockets_of(root, "socket_schema --application project.asgi.application")
    description = describe(root)
    if kind == "ts":
        return typescript(description)
    return WRITERS[kind](asyncapi(description, servers))


def _command(kind: str, application: str | None, servers: Sequence[str]) -> str:
    """Return the command that writes what is checked."""
    words = ["python", "manage.py", "socket_schema", "--format", kind]
    if application:
        words += ["--application", application]
    for server in servers:
        words += ["--server", server]
    return shlex.join(words)
