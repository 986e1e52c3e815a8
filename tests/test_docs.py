"""The pages of docs/, followed literally and held against the code."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

import pytest

from rest_channels.protocol import PAYLOAD_KEYS, CloseCode, Reply
from rest_channels.settings import DEFAULTS
from tests.distribution import ROOT, lower_bounds, python_versions
from tests.walkthrough import Walkthrough, blocks

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
TEXTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", *PAGES]
PACKAGE = ROOT / "rest_channels"
#: Modules and packages, but for those that Django names.
MODULES = {path.stem for path in PACKAGE.glob("*.py")} | {
    path.parent.name
    for path in PACKAGE.glob("*/__init__.py")
    if path.parent.name not in ("management", "migrations")
}

# What a page's blocks, one after the other in the tutorial's project, are run by.
RUN_BLOCKS = """
import os, pathlib, sys, django
os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
django.setup()
for name in sys.argv[1:]:
    text = pathlib.Path(name).read_text()
    exec(compile(text, name, "exec"), {"__name__": "page"})
"""


def test_the_tutorial_the_protocols_examples_and_every_pages_code(tmp_path):
    with Walkthrough(tmp_path) as walkthrough:
        walkthrough.follow(DOCS / "tutorial.md")
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
    for found in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, found.start(1))
        lines = found[1].splitlines()
        code[line : line + len(lines)] = lines
    path = directory / f"{page.stem}.md.py"
    path.write_text("\n".join(code))
    return path


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!\w+:)([^)#]*)(?:#([^)]+))?\)", page.read_text()):
        file = (page.parent / target).resolve() if target else page
        assert file.is_file(), target
        if anchor:
            assert anchor in anchors(file), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown renderers make them of their text."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    kept = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"[\s-]+", "-", text) for text in kept}


def test_every_public_module_has_a_page():
    public = MODULES - {"__init__", "apps", "pytest_plugin"}
    assert public - {page.stem for page in PAGES} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_modules_page_names_it(page):
    if page.stem in MODULES:
        assert f"`rest_channels.{page.stem}" in page.read_text()


def test_the_table_of_contents_has_every_page():
    linked = set(re.findall(r"\]\((\w+)\.md\)", (DOCS / "index.md").read_text()))
    assert linked == {page.stem for page in PAGES} - {"index"}


def test_the_settings_are_those_of_the_code_with_their_defaults():
    page = (DOCS / "settings.md").read_text()
    rows = re.findall(r"^\| \[`(\w+)`\]\(#\w+\) \| `(.+?)` \|", page, re.MULTILINE)
    assert {name: eval(default) for name, default in rows} == DEFAULTS
    explained = re.findall(r"^## ([A-Z_]+)$", page, re.MULTILINE)
    assert explained == [name for name, _ in rows]


def test_the_checks_are_those_of_the_code():
    code = (ROOT / "rest_channels" / "checks.py").read_text()
    shown = re.findall(r"^\| `rest_channels\.(\w+)` \|", (DOCS / "checks.md").read_text(), re.M)
    assert shown == sorted(set(re.findall(r'id="rest_channels\.(\w+)"', code)))


def test_the_close_codes_of_the_protocol_are_those_of_the_code():
    table = (DOCS / "protocol.md").read_text().partition("## Close codes")[2]
    shown = re.findall(r"^\| (\d{4}) \|", table, re.MULTILINE)
    assert sorted(map(int, shown)) == sorted(CloseCode)


def test_the_keys_of_the_protocol_are_those_of_the_code():
    page = (DOCS / "protocol.md").read_text()
    frame, reply = (page.partition(f"## {title}\n")[2] for title in ("Frames", "Replies"))
    shown = set(re.findall(r"^\| `(\w+)` \| \w", frame.partition("###")[0], re.MULTILINE))
    assert shown == PAYLOAD_KEYS
    shown = set(re.findall(r"^\| `(\w+)` \|", reply.partition("###")[0], re.MULTILINE))
    assert shown == json.loads(Reply(200, codes="[]", headers={"A": "b"}).encode()).keys()


def test_versions_that_the_pages_mention_are_those_of_setup_cfg():
    for page in TEXTS:
        text = page.read_text()
        for version in re.findall(r"Python (\d\.\d+) or later", text):
            assert version == python_versions()[0], page.name
        for name, version in re.findall(r"\b(Django|Channels) (\d\.\d+)", text):
            assert version == lower_bounds()[name if name == "Django" else "channels"], page.name


def test_imports_run_the_way_that_the_design_says():
    page = (DOCS / "design.md").read_text()
    picture = page.partition("## Imports run one way")[2].partition("```text\n")[2]
    lines = picture.partition("```")[0].strip().splitlines()
    rank = {module: number for number, line in enumerate(lines) for module in line.split()}
    assert rank.keys() == MODULES - {"__init__"}
    edges = {module: imported(module) for module in rank}
    for module, others in edges.items():
        assert [other for other in others if rank[other] > rank[module]] == [], module
        assert module not in reachable(module, edges), f"{module} imports itself in the end"


def imported(module: str) -> set[str]:
    """The modules of this package that one imports at run time, wherever it does."""
    paths = list((PACKAGE / module).glob("*.py")) or [PACKAGE / f"{module}.py"]
    return {name for path in paths for name in imported_by(path)} - {module}


def imported_by(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "rest_channels":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("rest_channels."):
            names.add(node.module.split(".")[1])
    return names


def reachable(module: str, edges: dict[str, set[str]]) -> set[str]:
    found, todo = set(), list(edges[module])
    while todo:
        if (other := todo.pop()) not in found:
            found.add(other)
            todo += edges[other]
    return found
