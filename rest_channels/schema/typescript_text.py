"""Texts of TypeScript: names, keys, literals, comments and objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

INDENT: Final = "  "
# The width of Prettier's lines.
_WIDTH: Final = 80

_IDENTIFIER: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_LITERALS: Final = (str, int, float, bool, type(None))

# Words that TypeScript does not allow as the name of a type.
_RESERVED: Final = frozenset(
    [
        *["any", "bigint", "boolean", "never", "null", "number", "object", "string", "symbol"],
        *["undefined", "unknown", "void", "abstract", "as", "async", "await", "break", "case"],
        *["catch", "class", "const", "continue", "debugger", "declare", "default", "delete"],
        *["do", "else", "enum", "export", "extends", "false", "finally", "for", "function", "if"],
        *["implements", "import", "in", "instanceof", "interface", "let", "new", "package"],
        *["private", "protected", "public", "return", "static", "super", "switch", "this"],
        *["throw", "true", "try", "type", "typeof", "var", "while", "with", "yield"],
    ]
)


@dataclass(frozen=True)
class Member:
    """A property of an object type, with the lines of its comment."""

    name: str
    type: str
    is_optional: bool = False
    comment: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        return f"{key(self.name)}{'?' * self.is_optional}: {self.type};"


def key(name: str) -> str:
    """Return `name` as the key of a property."""
    return name if _IDENTIFIER.fullmatch(name) else json.dumps(name)


def literal(value: Any) -> str:
    """Return the type of exactly `value`, which JSON carries."""
    if not isinstance(value, _LITERALS) or value != value or value in (1e999, -1e999):
        return "unknown"
    return json.dumps(value)


def type_name(name: str, taken: Iterable[str] = ()) -> str:
    """Return a name for a type that reads like `name` and is not among those `taken`."""
    found = re.sub(r"[^A-Za-z0-9_$]+", "_", name)
    if not _IDENTIFIER.fullmatch(found) or found in _RESERVED:
        found = f"_{found}"
    names = set(taken)
    numbered = (f"{found}{number}" for number in range(2, len(names) + 3))
    return next(candidate for candidate in (found, *numbered) if candidate not in names)


def union(types: Iterable[str]) -> str:
    """Return the union of `types`, null last; none of them is `never`."""
    parts: dict[str, None] = {}
    for part in types:
        # A union has null last, so this is one of `part` itself.
        known, separator, null = part.rpartition(" | null")
        parts.update(dict.fromkeys((known, "null") if separator and not null else (part,)))
    parts.pop("never", None)
    if "unknown" in parts:
        return "unknown"
    nulls = [part for part in parts if part == "null"]
    return " | ".join([*(part for part in parts if part != "null"), *nulls]) or "never"


def grouped(type_: str) -> str:
    """Return `type_` so that `[]`, `&` and `|` may follow."""
    return f"({type_})" if re.search(r" [|&] ", _without_braces(type_)) else type_


def _without_braces(text: str) -> str:
    """Return what is outside of braces, brackets, parentheses and quotes."""
    text = re.sub(r'"(?:[^"\\]|\\.)*"|/\*.*?\*/', "", text, flags=re.DOTALL)
    while True:
        shorter = re.sub(r"\{[^{}()]*\}|\([^{}()]*\)", "", text)
        if shorter == text:
            return text
        text = shorter


def comment(lines: Sequence[str]) -> list[str]:
    """Return the lines of a comment; none if there is nothing to say."""
    texts = [line.rstrip().replace("*/", "*\\/") for line in lines]
    if not texts:
        return []
    if len(texts) == 1:
        return [f"/** {texts[0]} */"]
    return ["/**", *(f" * {text}".rstrip() for text in texts), " */"]


def words(text: str) -> tuple[str, ...]:
    """Return the lines of a text, without empty ones at both ends."""
    return tuple(line.rstrip() for line in text.strip().splitlines())


def members(found: Iterable[Member]) -> list[str]:
    """Return the lines of the members of an object, indented once."""
    return [indented(line) for member in found for line in (*comment(member.comment), member.code)]


def object_type(found: Sequence[Member]) -> str:
    """Return the type of an object, on one line if it is short and has no comments."""
    if not found:
        return "{}"
    line = f"{{ {' '.join(member.code for member in found)[:-1]} }}"
    if len(line) <= _WIDTH and "\n" not in line and not any(member.comment for member in found):
        return line
    return "\n".join(["{", *members(found), "}"])


def indented(text: str) -> str:
    return "\n".join(f"{INDENT}{line}" if line else line for line in text.split("\n"))
