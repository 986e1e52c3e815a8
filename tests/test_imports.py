"""The modules of the package know only those below them."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import rest_channels

ROOT = Path(rest_channels.__file__).parent

# Imports run down or stay in a line, without a circle. A new module belongs somewhere here.
RANKS = [
    ["test", "checks", "apps", "management", "pytest_plugin", "__init__"],
    ["routers", "consumers"],
    ["connection", "demultiplexer", "lanes"],
    ["viewsets", "mixins", "fields"],
    ["streams", "exchange", "hosting", "admission"],
    ["live", "models", "migrations"],
    [
        *["threads", "origin", "request", "authentication", "response"],
        *["permissions", "outbox", "daphne", "leases", "shutdown"],
    ],
    [
        *["protocol", "exceptions", "settings", "rates", "faults", "negotiation"],
        *["keywords", "pool", "scheduling", "eager", "counters", "reports"],
    ],
]
HEIGHT = {module: -depth for depth, rank in enumerate(RANKS) for module in rank}

# Django and pytest load them before there are settings or apps: they import when called.
LOADED_EARLY = {"apps", "pytest_plugin"}

MODELS = ("rest_channels.models", "rest_channels.migrations.")

SOURCES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in ROOT.rglob("*.py")
}


def module_of(path: str) -> str:
    return path.partition("/")[0].removesuffix(".py")


def imported(node: ast.AST) -> set[str]:
    """The modules of the package that an import statement names."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return set()
    own = [name.split(".") for name in names if name.split(".")[0] == "rest_channels"]
    return {parts[1] for parts in own if len(parts) > 1 and parts[1] != "__version__"}


def is_type_checking(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def runtime_nodes(tree: ast.AST):
    """All nodes that may run: not what is there for type checkers only."""
    for node in tree.orelse if is_type_checking(tree) else ast.iter_child_nodes(tree):
        yield node
        yield from runtime_nodes(node)


def imports() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for path, tree in SOURCES.items():
        for node in runtime_nodes(tree):
            graph.setdefault(module_of(path), set()).update(imported(node))
    return graph


def test_every_module_has_a_rank():
    found = {module.name for module in pkgutil.iter_modules([str(ROOT)])}
    assert found <= HEIGHT.keys()


def test_imports_run_down_or_within_a_rank():
    upward = [
        f"{module} imports {other}"
        for module, others in imports().items()
        for other in others
        if HEIGHT[other] > HEIGHT[module]
    ]
    assert upward == []


def test_there_is_no_circle():
    graph = {module: others - {module} for module, others in imports().items()}
    TopologicalSorter(graph).prepare()


def test_no_function_imports_the_package_itself():
    hidden = [
        (path, function.name)
        for path, tree in SOURCES.items()
        for function in runtime_nodes(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        and any(imported(node) for node in runtime_nodes(function))
        and module_of(path) not in LOADED_EARLY
    ]
    assert hidden == []


def test_the_wire_knows_no_django():
    code = (
        "import sys, rest_channels.protocol; "
        "print({'django', 'rest_framework', 'channels', 'asyncio'} & sys.modules.keys())"
    )
    assert run(code) == "set()\n"


def test_no_import_needs_the_apps_to_be_there():
    modules = [
        module.name
        for module in pkgutil.walk_packages([str(ROOT)], "rest_channels.")
        # Django imports them, once the apps are there.
        if not module.ispkg and not module.name.startswith(MODELS)
    ]
    run(
        "import importlib\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "from django.apps import apps\n"
        "from django.core.exceptions import AppRegistryNotReady\n"
        "try: apps.get_models()\n"
        "except AppRegistryNotReady: pass\n"
        "else: raise AssertionError('an import has set Django up')\n"
    )


def run(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    environment = {"DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=ROOT.parent, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
