"""
Check the project's prose for phrases that a reader has to read twice: `python3 .ci/prose.py`.

It reads docstrings, comments, string literals, Markdown, JavaScript and HTML of all files that git
tracks, and prints `path:line: phrase: what to write instead`. The exit status is 1 if it found one.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

# A sentence begins with the text, after a full stop, or after an empty line.
_BEGIN = r"(?:\A\s*|(?<=[.!?])\s+|\n\s*\n\s*)"
# A question may begin with a question word.
_NO_QUESTION = r"(?=[^.!?]*(?:[.!]|\Z))"

# "is no longer" is English.
_COMPARES = r"(?!longer|more|less|fewer|later|earlier|older|newer)"

PHRASES = {
    r"\banew\b": "again",
    r"\bwhoever\b": "the actor",
    r"\bsomebody\b": "the actor, or 'a user', 'another client'",
    r"\bso many\b": "the number, or 'this many'",
    r"\bat hand\b": "available",
    r"\bas ever\b": "as before",
    r"(?<!there )\b(?:am|is|are|was|were|be) no " + _COMPARES + r"\w+": "'is not a'",
    r"\b(?:is|are|was|were|be|been|being) told\b": "'receives', or what it receives",
    _BEGIN + r"Of (?!course)\w+" + _NO_QUESTION: "the subject first",
    _BEGIN + r"(?:What|Who|Whom|Whose)\b" + _NO_QUESTION: "a noun",
    _BEGIN + r"Where\b" + _NO_QUESTION: "'if', or the place",
}
_PHRASES = {
    # A sentence begins with a capital; other phrases may be anywhere.
    re.compile(pattern, 0 if pattern.startswith(_BEGIN) else re.IGNORECASE): instead
    for pattern, instead in PHRASES.items()
}

# A function does something: these begin a description of what it returns. Ruff's D401 has more.
_NO_IMPERATIVE = re.compile(
    r"(?:Whether|True|False|None|If|How|Those|These|All|Each|Every|An?|No|As|At|By|In|On|Not|One)\b"
)

Prose = tuple[int, str]


def of_python(source: str) -> Iterator[Prose]:
    """Yield docstrings and other strings that have a space, and comments that are no titles."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = (v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value
    for number, block in _comments(source):
        if not is_heading(block, source.split("\n")[number - 1]):
            yield number, block


def _comments(source: str) -> Iterator[Prose]:
    """Yield blocks of comments in lines that follow each other."""
    block: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        if block and line != last + 1:
            yield last - len(block) + 1, "\n".join(block)
            block = []
        block.append(token.string.lstrip("#: "))
        last = line
    if block:
        yield last - len(block) + 1, "\n".join(block)


def is_heading(comment: str, line: str) -> bool:
    """Return whether a comment is the title of the functions that follow, and not a sentence."""
    is_alone = line.startswith("#") and "\n" not in comment
    return is_alone and not comment.endswith((".", "!", "?", ":", ";"))


def of_markdown(source: str) -> Iterator[Prose]:
    """Yield paragraphs without code, cells of tables; no headings, which are not sentences."""
    text = re.sub(r"^ *```.*?^ *```", lambda m: "\n" * m[0].count("\n"), source, flags=re.M | re.S)
    for number, line in _paragraphs(text):
        if not line.startswith("#"):
            yield number, re.sub(r"^\s*(?:[-*>]|\d+\.) |[*_]{2}", "", line)


def _paragraphs(text: str) -> Iterator[Prose]:
    paragraph: list[str] = []
    begin = 1
    for number, line in enumerate([*text.split("\n"), ""], 1):
        is_new = not line.strip() or re.match(r"\s*(?:[-*#|]|\d+\.)", line) is not None
        if is_new and paragraph:
            yield begin, "\n".join(paragraph)
            paragraph = []
        if line.strip().startswith("|"):
            yield from ((number, cell.strip()) for cell in line.split("|"))
        elif line.strip():
            begin = begin if paragraph else number
            paragraph.append(line)


def of_script(source: str) -> Iterator[Prose]:
    """Yield comments and strings of JavaScript."""
    pattern = r"/\*.*?\*/|(?:^ *//.*\n)+|//.*|\"[^\"\n]* [^\"\n]*\"|`[^`]* [^`]*`"
    for match in re.finditer(pattern, source, re.M | re.S):
        text = re.sub(r"^ *(?:/?\*+/?|//)|\*/$|[\"`]", "", match[0], flags=re.M)
        yield source.count("\n", 0, match.start()) + 1, text


def of_html(source: str) -> Iterator[Prose]:
    """Yield texts between tags, and attributes."""
    for match in re.finditer(r">([^<>]+)<|=\"([^\"]* [^\"]*)\"|{#(.*?)#}", source):
        yield source.count("\n", 0, match.start()) + 1, next(filter(None, match.groups()))


READERS = {".py": of_python, ".md": of_markdown, ".js": of_script, ".html": of_html}


def phrases(prose: Prose) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the phrase and what to write instead."""
    number, text = prose
    for pattern, instead in _PHRASES.items():
        for match in pattern.finditer(text):
            phrase = match[0].strip()
            line = number + text.count("\n", 0, match.end() - len(match[0].lstrip()))
            yield line, phrase, instead


def moods(source: str) -> Iterator[tuple[int, str, str]]:
    """Yield docstrings of functions that do not begin with an imperative."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        names = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
        match = _NO_IMPERATIVE.match(ast.get_docstring(node) or "")
        if match and not names & {"property", "cached_property", "setter"}:
            yield node.lineno, match[0], "an imperative: 'Return whether ...'"


def findings(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield what is to be mended in the file."""
    source = path.read_text()
    for prose in READERS[path.suffix](source):
        yield from phrases(prose)
    # A fixture or a helper of tests may be described by what it gives.
    if path.suffix == ".py" and "tests" not in path.parts and not path.name.startswith("test"):
        yield from moods(source)


def main(paths: list[str]) -> int:
    """Check `paths`, by default all files of the project."""
    if not paths:
        tracked = subprocess.check_output(["git", "ls-files"], text=True).split("\n")
        paths = [path for path in tracked if path]
    status = 0
    for path in map(Path, paths):
        # The list of phrases holds them all, and so do its tests.
        if path.suffix not in READERS or path.name in ("prose.py", "test_prose.py"):
            continue
        for line, phrase, instead in sorted(set(findings(path))):
            print(f"{path}:{line}: {phrase!r}: write {instead}")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
