"""
Colours for the terminals of these pages, a hook of mkdocs.

Pygments colours `$ command`. Messages after `>` and `<` are JSON, with the indented
lines that go on with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pygments.lexers
from pygments.lexers.data import JsonLexer
from pygments.lexers.shell import BashSessionLexer
from pygments.token import Generic

MESSAGE = re.compile(r"^([<>] )(.*\n(?:  .*\n)*)", re.MULTILINE)


class TerminalLexer(BashSessionLexer):
    """A shell session in which a websocket may be open."""

    name = "Terminal"

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, object, str]]:
        end = 0
        for message in MESSAGE.finditer(text):
            yield from self._shell(text, end, message.start())
            yield message.start(), Generic.Prompt, message[1]
            for index, kind, value in JsonLexer().get_tokens_unprocessed(message[2]):
                yield message.start(2) + index, kind, value
            end = message.end()
        yield from self._shell(text, end, len(text))

    def _shell(
        self, text: str, start: int, end: int
    ) -> Iterator[tuple[int, object, str]]:
        for index, kind, value in super().get_tokens_unprocessed(text[start:end]):
            yield start + index, kind, value


def on_startup(**kwargs: object) -> None:
    """Put the lexer in the place of Pygments' own for `console`."""
    pygments.lexers.LEXERS["BashSessionLexer"] = (
        "terminal", "Terminal", ("console", "shell-session"), (), (),
    )  # fmt: skip
    pygments.lexers._lexer_cache["Terminal"] = TerminalLexer
