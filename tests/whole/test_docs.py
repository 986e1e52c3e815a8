"""The pages of docs/, followed literally and held against the code."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path

import pytest

from rest_channels.protocol import IDEMPOTENCY_KEY, PAYLOAD_KEYS, CloseCode, Reply
from rest_channels.settings import DEFAULTS
from tests.support.distribution import ROOT, django_versions, lower_bounds, python_versions
from tests.support.walkthrough import FENCED, Walkthrough, blocks

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *PAGES,
]
PACKAGE = ROOT / "rest_channels"

TUTORIAL_TYPES = ROOT / "tests" / "schema" / "programs" / "tutorial" / "socket-api.ts"

# The build makes it: see docs/.imports.py.
BUILT = DOCS / "diagrams" / "imports-after.svg"

# A program that runs a page's blocks, one after the other, in the tutorial's project.
RUN_BLOCKS = """
import os, pathlib, sys, django
os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
django.setup()
for name in sys.argv[1:]:
    text = pathlib.Path(name).read_text()
    exec(compile(text, name, "exec"), {"__name__": "page"})
"""


@pytest.mark.timeout(600)
def test_the_tutorial_the_protocols_examples_and_every_pages_code(tmp_path):
    with Walkthrough(tmp_path) as walkthrough:
        walkthrough.follow(DOCS / "tutorial.md")
        # They are compiled with the examples of types.md.
        assert (walkthrough.directory / "socket-api.ts").read_text() == TUTORIAL_TYPES.read_text()
        styles = re.findall(rb'href="(/static/[^"]+)"', walkthrough.fetch("/admin/login/"))
        assert all(map(walkthrough.fetch, (path.decode() for path in styles))) and styles
        walkthrough.follow(DOCS / "protocol.md")
        code = [
            write_code(page, tmp_path)
            for page in PAGES
            if page.stem != "tutorial" and any(block.language == "python" for block in blocks(page))
        ]
        assert len(code) > 5
        walkthrough.run(sys.executable, "-c", RUN_BLOCKS, *code)


def write_code(page: Path, directory: Path) -> Path:
    """A file of the Python blocks of `page`, each at the line where it stands."""
    text = page.read_text()
    code = [""] * text.count("\n")
    for found in FENCED.finditer(text):
        if found[2] != "python":
            continue
        line = text.count("\n", 0, found.start(3))
        lines = textwrap.dedent(found[3]).splitlines()
        code[line : line + len(lines)] = lines
    path = directory / f"{page.stem}.md.py"
    path.write_text("\n".join(code))
    return path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_of_code_fit_in_the_column_of_the_built_page(page):
    """Except for commands at a terminal, which stay one line, and texts that cannot be broken."""
    lines = [line for block in blocks(page) for line in block.lines if len(line) > 91]
    assert [line for line in lines if not re.match(r'[$>] | *"[^"]*"$', line)] == []


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!\w+:)([^)#]*)(?:#([^)]+))?\)", page.read_text()):
        file = (page.parent / target).resolve() if target else page
        assert file.is_file() or file == BUILT, target
        if anchor:
            assert anchor in anchors(file), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown renderers make them of their text."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    kept = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"[\s-]+", "-", text) for text in kept}


def test_the_reference_has_every_module_that_projects_import():
    modules = {path.stem for path in PACKAGE.glob("*.py")} | {"consumers", "test"}
    public = modules - {"__init__", "apps", "moved", "pytest_plugin"}
    generated = re.findall(
        r"^::: rest_channels\.(\w+)$", (DOCS / "api.md").read_text(), re.MULTILINE
    )
    described = set(re.findall(r"`rest_channels\.(\w+)", "".join(map(Path.read_text, PAGES))))
    assert public - set(generated) - described == set()


def test_the_table_of_contents_and_the_navigation_have_every_page():
    pages = {str(page.relative_to(DOCS)) for page in PAGES}
    linked = re.findall(r"\]\(([\w/-]+\.md)\)", (DOCS / "index.md").read_text())
    assert set(linked) == pages - {"index.md"}
    shown = re.findall(
        r"^ +- (?:[\w ]+: )?([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE
    )
    assert sorted(shown) == sorted(pages)


def test_the_settings_are_those_of_the_code_with_their_defaults():
    page = (DOCS / "settings.md").read_text()
    rows = re.findall(r"^\| \[`(\w+)`\]\(#\w+\) \| `(.+?)` \|", page, re.MULTILINE)
    assert {name: eval(default) for name, default in rows} == DEFAULTS
    explained = re.findall(r"^## ([A-Z_]+)$", page, re.MULTILINE)
    assert explained == [name for name, _ in rows]


def test_the_checks_are_those_of_the_code():
    code = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    shown = re.findall(r"^\| `rest_channels\.(\w+)` \|", (DOCS / "checks.md").read_text(), re.M)
    assert shown == sorted(set(re.findall(r'id="rest_channels\.([EW]\d+)"', code)))


def test_the_close_codes_of_the_protocol_are_those_of_the_code():
    table = (DOCS / "protocol.md").read_text().partition("## Close codes")[2]
    shown = re.findall(r"^\| (\d{4}) \|", table, re.MULTILINE)
    assert sorted(map(int, shown)) == sorted(CloseCode)


def test_the_keys_of_the_protocol_are_those_of_the_code():
    page = (DOCS / "protocol.md").read_text()
    frame, reply = (page.partition(f"## {title}\n")[2] for title in ("Frames", "Replies"))
    shown = set(re.findall(r"^\| `(\w+)` \| \w", frame.partition("###")[0], re.MULTILINE))
    assert shown == PAYLOAD_KEYS | {IDEMPOTENCY_KEY}
    shown = set(re.findall(r"^\| `(\w+)` \|", reply.partition("###")[0], re.MULTILINE))
    whole = Reply(200, codes="[]", headers={"A": "b"}, extra={"fenced": "1", "replayed": "1"})
    assert shown == json.loads(whole.encode()).keys()


def test_versions_that_the_pages_mention_are_those_of_setup_cfg():
    # Results name the versions that were measured.
    for page in [page for page in TEXTS if not page.stem.startswith("results")]:
        text = page.read_text()
        for version in re.findall(r"Python (\d\.\d+) or later", text):
            assert version == python_versions()[0], page.name
        for version in re.findall(r"\bDjango (\d\.\d+)", text):
            assert version in django_versions(), page.name
        for version in re.findall(r"\bChannels (\d\.\d+)", text):
            assert version == lower_bounds()["channels"], page.name
