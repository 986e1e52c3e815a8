"""
Draw the imports of the package, and count what is wrong with them: a hook of mkdocs.

As a command, it prints the picture or the figures:

    python docs/.imports.py rest_channels > imports.svg
    python docs/.imports.py --count rest_channels

Boxes are modules, in a column for each package, above everything that they import. An
arrow is an import, also one for type checkers alone; an import that other arrows imply
is left out. Modules that import each other in a circle are red, and so are all imports
among them.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any

Graph = dict[str, set[str]]

#: Folders of modules that Django finds by name; nothing imports them.
NAMED_BY_DJANGO = ("management", "migrations")

CHARACTER, LINE, GAP, PAD, TITLE = 5.7, 15, 5, 14, 26

STYLE = """
    text { font: 10px system-ui, sans-serif; fill: #212121; text-anchor: middle; }
    .package { font-size: 13px; font-weight: 600; fill: #00695c; }
    .zone { fill: #e0f2f1; }
    .module { fill: #fff; stroke: #00897b; }
    .import { stroke: #546e7a; stroke-opacity: .45; fill: none; }
    .circle { stroke: #c62828; stroke-width: 1.5; }
    .circle.module { fill: #ffcdd2; }
    .head { fill: #546e7a; }
    .circle-head { fill: #c62828; }
"""


def imports(package: Path) -> Graph:
    """Return the modules of `package`, each with those that it imports."""
    trees = {
        path.relative_to(package)
        .with_suffix("")
        .as_posix()
        .removesuffix("/__init__"): path
        for path in sorted(package.rglob("*.py"))
    }
    trees = {name.replace("/", "."): path for name, path in trees.items()}
    modules = {
        n for n in trees if n != "__init__" and not n.startswith(NAMED_BY_DJANGO)
    }
    graph: Graph = {}
    for module in sorted(modules):
        tree = ast.parse(trees[module].read_text())
        names = {name for node in ast.walk(tree) for name in _named(node, package.name)}
        graph[module] = {found for n in names if (found := _module(n, modules))} - {
            module
        }
    # A package that is a docstring alone is a folder.
    imported = {other for others in graph.values() for other in others}
    return {
        module: others
        for module, others in graph.items()
        if others or module in imported or trees[module].name != "__init__.py"
    }


def _named(node: ast.AST, package: str) -> Iterator[str]:
    """Yield what an import statement names within `package`."""
    match node:
        case ast.Import(names=names):
            found = [alias.name for alias in names]
        case ast.ImportFrom(module=str(module), names=names, level=0):
            found = [f"{module}.{alias.name}" for alias in names]
        case _:
            return
    yield from (n.partition(".")[2] for n in found if n.partition(".")[0] == package)


def _module(name: str, modules: set[str]) -> str:
    """Return the module that `name` is, or is in; empty if there is none."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def reachable(graph: Graph) -> Graph:
    """Return all that each module needs, by any number of steps."""
    found = {module: set(others) for module, others in graph.items()}
    for middle in graph:
        for others in found.values():
            if middle in others:
                others |= found[middle]
    return found


def circles(graph: Graph) -> list[frozenset[str]]:
    """Return the sets of modules that all need each other."""
    needs = reachable(graph)
    return sorted(
        {
            frozenset({module} | {n for n in needs[module] if module in needs[n]})
            for module in graph
            if module in needs[module]
        },
        key=sorted,
    )


def counts(graph: Graph) -> dict[str, int]:
    """Return what the page `internals/layout.md` compares."""
    names = Counter(module.rpartition(".")[2] for module in graph)
    packages = {module.rpartition(".")[0] for module in graph}
    return {
        "modules": len(graph),
        "modules at the top level": sum(
            "." not in m and m not in packages for m in graph
        ),
        "names that several modules have": sum(count > 1 for count in names.values()),
        "imports": sum(map(len, graph.values())),
        "pairs that import each other": sum(
            module < other and module in graph[other]
            for module in graph
            for other in graph[module]
        ),
        "circles": len(circles(graph)),
        "modules in circles": len(frozenset().union(*circles(graph))),
    }


def heights(graph: Graph) -> dict[str, int]:
    """Return how many steps each module is above those that import nothing."""
    needs = reachable(graph)
    found: dict[str, int] = {}
    # A module needs more than those below it; modules of a circle need the same.
    for module in sorted(graph, key=lambda m: (len(needs[m] | {m}), m)):
        below = [
            found[other] + 1 for other in needs[module] if module not in needs[other]
        ]
        found[module] = max(below, default=0)
    return found


def drawn(graph: Graph) -> Iterator[tuple[str, str]]:
    """Yield the imports that no other imports imply."""
    needs = reachable(graph)
    for module in sorted(graph):
        for other in sorted(graph[module]):
            between = (m for m in graph[module] - {other} if module not in needs[m])
            if module in needs[other] or not any(other in needs[m] for m in between):
                yield module, other


class Layout:
    """The place of each box: a column for each package, a row for each height."""

    def __init__(self, graph: Graph) -> None:
        self.boxes: dict[str, tuple[float, float, float]] = {}
        self.zones: list[tuple[str, float, float]] = []
        rows: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
        packages = {module.rpartition(".")[0] for module in graph}
        for module, height in sorted(heights(graph).items()):
            package = module if module in packages else module.rpartition(".")[0]
            # A package in a package in a package has no column of its own.
            rows[".".join(package.split(".")[:2])][height].append(module)
        top = max(height for column in rows.values() for height in column)
        abreast = {package: _abreast(column) for package, column in rows.items()}
        y: dict[int, float] = {}
        bottom: float = TITLE + PAD
        for height in range(top, -1, -1):
            y[height] = bottom
            deepest = max(-(-len(rows[p][height]) // abreast[p]) for p in rows)
            bottom += deepest * (LINE + GAP) + GAP
        x: float = PAD
        for package in sorted(rows):
            width = max(len(_name(m)) for row in rows[package].values() for m in row)
            width = max(width, len(package) * 1.3 / abreast[package]) * CHARACTER + 8
            for height, row in rows[package].items():
                for number, module in enumerate(row):
                    line, place = divmod(number, abreast[package])
                    left = x + place * (width + GAP)
                    self.boxes[module] = (left, y[height] + line * (LINE + GAP), width)
            span = abreast[package] * (width + GAP) - GAP
            self.zones.append((package or "top level", x, span))
            x += span + 2 * PAD
        self.width, self.height = round(x), round(bottom + PAD)


def _abreast(column: dict[int, list[str]]) -> int:
    """Return how many boxes of a column stand side by side."""
    return min(3, max(1, sum(map(len, column.values())) // 16 + 1))


def _name(module: str) -> str:
    return module.rpartition(".")[2]


def svg(graph: Graph, title: str) -> str:
    """Return the picture."""
    return "\n".join(_lines(graph, Layout(graph), title)) + "\n"


def _lines(graph: Graph, layout: Layout, title: str) -> Iterator[str]:
    red = {module: circle for circle in circles(graph) for module in circle}
    size = f'width="{layout.width}" height="{layout.height}"'
    view = f'viewBox="0 0 {layout.width} {layout.height}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} role="img">'
    yield f"  <title>{escape(title)}</title>\n  <style>{STYLE}  </style>"
    for kind in ("head", "circle-head"):
        yield (
            f'  <marker id="{kind}" viewBox="0 0 8 8" refX="7" refY="4" '
            'markerWidth="5" markerHeight="5" orient="auto">'
            f'<path class="{kind}" d="M0 0 8 4 0 8z"/></marker>'
        )
    yield '  <rect width="100%" height="100%" fill="#fff"/>'
    for package, x, span in layout.zones:
        size = f'width="{span + 16:.0f}" height="{layout.height - 8}"'
        yield f'  <rect class="zone" x="{x - 8:.0f}" y="4" {size} rx="6"/>'
        place = f'x="{x + span / 2:.0f}" y="{TITLE - 4}"'
        yield f'  <text class="package" {place}>{package}</text>'
    yield from _arrows(drawn(graph), layout, red)
    for module, (x, y, width) in sorted(layout.boxes.items()):
        kind = "module circle" if module in red else "module"
        place = f'x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{LINE}"'
        yield f'  <rect class="{kind}" {place} rx="3"><title>{module}</title></rect>'
        yield f'  <text x="{x + width / 2:.0f}" y="{y + 11:.0f}">{_name(module)}</text>'
    yield "</svg>"


def _arrows(
    edges: Iterable[tuple[str, str]], layout: Layout, red: dict[str, frozenset[str]]
) -> Iterator[str]:
    """Yield the arrows, those of circles last and so on top."""
    found = []
    for module, other in edges:
        (x, y, width), (other_x, other_y, other_width) = (
            layout.boxes[module],
            layout.boxes[other],
        )
        is_red = other in red.get(module, ())
        start = f"M{x + width / 2:.0f} {y + LINE if other_y >= y else y:.0f}"
        entry = other_y if other_y > y else other_y + LINE
        end = f"{other_x + other_width / 2:.0f} {entry:.0f}"
        kind, head = ("import circle", "circle-head") if is_red else ("import", "head")
        line = f'  <path class="{kind}" d="{start} {end}" marker-end="url(#{head})"/>'
        found.append((is_red, line))
    yield from (line for _, line in sorted(found))


def on_files(files: Any, config: Any) -> Any:
    """Add the picture of the package as it is to the site."""
    from mkdocs.structure.files import File

    package = Path(config.config_file_path).parent / "rest_channels"
    picture = svg(imports(package), "The imports of rest_channels")
    files.append(File.generated(config, "diagrams/imports-after.svg", content=picture))
    return files


def main(arguments: list[str]) -> None:
    """Print the picture of a package, or with `--count` its figures."""
    graph = imports(Path(arguments[-1]))
    if "--count" in arguments:
        for what, count in counts(graph).items():
            print(f"{what}: {count}")
    else:
        print(svg(graph, f"The imports of {Path(arguments[-1]).name}"), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
