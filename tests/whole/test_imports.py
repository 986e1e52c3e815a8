"""The modules of the package know only those below them."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import rest_channels

ROOT = Path(rest_channels.__file__).parent

# Imports run down, and never within a rank. A new module belongs somewhere here.
RANKS = [
    # The client in Python: nothing else imports it.
    [
        "client",
    ],
    [
        "client.connecting",
    ],
    [
        "client.api",
    ],
    [
        "client.calls",
        "client.handles",
        "client.network",
    ],
    [
        "client.core",
    ],
    [
        "client.answers",
        "client.line",
        "client.lists",
        "client.presence_room",
    ],
    [
        "client.following",
        "client.writing",
    ],
    [
        "client.wire",
    ],
    [
        "client.changes",
        "client.errors",
        "client.rows",
    ],
    [
        "client.incoming",
    ],
    [
        "client.callbacks",
        "client.limits",
        "client.ports",
    ],
    [
        "console.urls",
    ],
    [
        "console.console_views",
        "console.renderers",
        "schema.typescript",
    ],
    [
        "console.described",
        "console.live_links",
        "console.process_report",
        "health",
        "schema.typescript_streams",
    ],
    [
        "health.readiness",
        "schema.views",
    ],
    [
        "health.database_probe",
        "schema.formats",
    ],
    [
        "schema.asyncapi",
    ],
    [
        "schema.channel_operations",
    ],
    [
        "schema.wire_schemas",
    ],
    [
        "schema.description",
    ],
    [
        "apps",
        "consumers",
        "schema.handler_messages",
        "schema.mapping",
    ],
    [
        "checks",
        "schema.plain_operations",
        "schema.spectacular_operations",
    ],
    [
        "checks.socket_checks",
        "consumers.groups.rooms",
        "consumers.subscription_consumers",
        "schema.operations",
        "schema.plain_components",
        "schema.socket_versions",
    ],
    [
        "checks.settings_checks",
        "consumers.groups.group_consumers",
        "consumers.model_consumers",
        "consumers.user_mixins",
        "schema.directions",
        "schema.routed_actions",
        "routers",
    ],
    [
        "checks.setting_values",
        "consumers.websockets",
    ],
    [
        "consumers.consumer_streams",
    ],
    [
        "consumers.channel_worker",
        "consumers.message_view",
    ],
    [
        "consumers.outlets",
        "consumers.socket_policy",
    ],
    [
        "consumers.base",
        "sockets.demultiplexer",
    ],
    [
        "sockets.connection",
    ],
    [
        "sockets.queues",
    ],
    [
        "live.delivery.registry",
    ],
    [
        "live.watches.watch_hub",
    ],
    [
        "live.delivery.hub",
        "live.watches.shared_groups",
    ],
    [
        "live.delivery.tracks",
        "live.watches.watch_groups",
    ],
    [
        "live.delivery.track",
    ],
    [
        "live.change_path",
    ],
    [
        "live.delivery.refresh",
        "live.watches.written_tables",
        "sockets.watch_exchange",
    ],
    [
        "live.delivery.judging",
        "live.delivery.telling",
        "live.delivery.uniting",
    ],
    [
        "live.delivery.pass_state",
        "live.delivery.window_growth",
    ],
    [
        "live.delivery.window_update",
    ],
    [
        "live.delivery.updates",
        "live.delivery.window_plan",
    ],
    [
        "live.delivery.fences",
        "live.delivery.arrivals",
        "live.delivery.paces",
        "live.delivery.renderings",
        "live.delivery.update_plan",
        "live.delivery.window_subscription",
    ],
    [
        "live.delivery.subscription",
        "live.visibility.row_loader",
        "live.watches.read_tables",
        "live.watches.watching",
    ],
    [
        "live.visibility.windows",
    ],
    [
        "checks.console_checks",
        "checks.database_checks",
        "live.capture.capture_checks",
        "live.delivery.window_events",
        "live.fence_checks",
        "live.visibility.audiences",
    ],
    [
        "live.capture.triggers",
        "live.visibility.loaded_columns",
        "live.visibility.row_names",
        "sockets.keyed_exchange",
        "viewsets",
    ],
    [
        "live.capture.managers",
        "live.capture.model_signals",
        "live.capture.triggers.postgresql",
        "live.capture.triggers.sqlite",
        "live.log.maintenance",
        "live.visibility.evaluations",
        "middleware",
        "mixins",
        "pytest_plugin",
        "sockets.frame_limits",
        "sockets.revalidation",
    ],
    [
        "authentication",
        "signals",
        "contrib.dcrf.hosting",
        "contrib.servers",
        "live.capture.named_fields",
        "live.capture.triggers.tables",
        "live.catalogue",
        "live.delivery.backlog",
        "live.log.sequencer",
        "live.visibility.evaluation",
        "sockets.fencing",
        "sockets.idempotency",
        "sockets.shutdown",
        "test",
    ],
    [
        "consumers.channels",
        "consumers.groups.authorization",
        "live.capture.writes",
        "observing.receivers",
        "sockets.dispatch",
        "sockets.handshake",
        "sockets.keyed_frames",
        "sockets.outbox",
        "sockets.stream_checks",
        "test.async_client",
        "test.live_list",
        "test.sync_client",
    ],
    ["sockets.reviews"],
    [
        "bus.doorbell",
        "consumers.groups.group_hub",
        "live.visibility.request_tracking",
        "live.watches.answer_sharing",
        "sockets.response",
        "sockets.streams",
        "test.base_client",
    ],
    [
        "bus.news",
        "consumers.groups.room_feeds",
        "live.visibility.answer_proofs",
        "live.watches.run_state",
        "live.watches.watch_runs",
        "sockets.admission",
        "sockets.request",
    ],
    [
        "bus.notifications",
        "consumers.groups.presence",
        "consumers.groups.room_history",
        "live.topics",
        "live.visibility.filter_index",
        "live.visibility.queries",
        "live.visibility.sharing",
        "live.visibility.surroundings",
        "live.visibility.window_edges",
        "sockets.credentials",
        "workers.threads",
    ],
    [
        "observing.access_log",
        "bus.bells",
        "bus.process_channel",
        "bus.publisher",
        "console.access",
        "consumers.groups.layers",
        "live.capture.coverage",
        "live.delivery.events",
        "live.delivery.window_script",
        "live.interface",
        "live.keys",
        "live.log.replay",
        "live.visibility.declarations",
        "live.visibility.dependencies",
        "live.visibility.learned",
        "live.visibility.proofs",
        "live.visibility.thread_locals",
        "sockets.kept_memory",
        "workers.connection_state",
    ],
    [
        "bus.channel_layer",
        "consumers.groups",
        "consumers.groups.members",
        "consumers.handlers",
        "contrib.dcrf.permission_adapter",
        "live.capture",
        "live.delivery.heartbeat",
        "live.fence_tokens",
        "live.log",
        "live.log.store",
        "live.model_tables",
        "live.visibility.clocks",
        "live.visibility.side_effects",
        "observing.observers",
        "protocol",
        "schema.big_integers",
        "schema.typescript_components",
        "sockets.frame_fence",
        "sockets.reply_store",
        "workers.connections",
        "workers.contexts",
        "workers.monitoring",
        "workers.turns",
        "workers.pool",
    ],
    [
        "bus.follower",
        "bus.loops",
        "bus.messages",
        "bus.tasks",
        "checks.layer_checks",
        "console.page_headers",
        "console.sign_in",
        "consumers.message_filters",
        "contrib.dcrf",
        "decorators",
        "exceptions",
        "live.capture.commits",
        "live.exact_values",
        "live.watches.watch_tokens",
        "live.log.positions",
        "live.log.statements",
        "live.log.transactions",
        "live.log_database",
        "live.table_names",
        "live.visibility.query_shapes",
        "live.visibility.total_order",
        "live.visibility.trust",
        "observing.paced_warnings",
        "observing.reports",
        "models",
        "moved",
        "schema.typescript_text",
        "settings",
        "sockets.addresses",
        "sockets.claims",
        "sockets.endpoints",
        "sockets.field_cache",
        "sockets.frame_hints",
        "sockets.list_encoding",
        "sockets.query_keys",
        "sockets.ratelimit",
        "sockets.running_keys",
        "schema.json_schema",
        "sockets.sessions",
        "workers.delays",
        "workers.lock_probe",
        "workers.scheduling",
        "workers.sql_effects",
    ],
    [
        "metrics.figures",
    ],
    [
        "metrics.gauges",
        "metrics.instruments",
    ],
]
HEIGHT = {module: -depth for depth, rank in enumerate(RANKS) for module in rank}

#: Found by Django itself: nothing imports them.
NAMED_BY_DJANGO = ("management", "migrations")

# Django, DRF and pytest load them before there are settings, apps or views: they import later.
LOADED_EARLY = {"apps", "console.renderers", "pytest_plugin"}

MODELS = ("rest_channels.models", "rest_channels.migrations.")

SOURCES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in ROOT.rglob("*.py")
}


def module_of(path: str) -> str:
    """The module in the file `path`, named from the package on."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


MODULES = {module_of(path) for path in SOURCES} - {"__init__"}

#: Packages that have a docstring alone need no rank.
RANKED = {
    module_of(path)
    for path, tree in SOURCES.items()
    if path != "__init__.py" and any(not isinstance(node, ast.Expr) for node in tree.body)
}


def imported(node: ast.AST) -> set[str]:
    """The modules of the package that an import statement names."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return set()
    own = [name.partition(".")[2] for name in names if name.partition(".")[0] == "rest_channels"]
    return {module for module in map(nearest_module, own) if module}


def nearest_module(name: str) -> str:
    """The module that `name`, a module or a name in one, belongs to."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


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
    """The modules that each module imports, those for type checkers alone included."""
    graph: dict[str, set[str]] = {}
    for path, tree in SOURCES.items():
        module = module_of(path)
        if module == "__init__" or module.startswith(NAMED_BY_DJANGO):
            continue
        for node in ast.walk(tree):
            graph.setdefault(module, set()).update(imported(node) - {module})
    return graph


def test_every_module_has_one_rank():
    ranked = [module for rank in RANKS for module in rank]
    assert sorted(ranked) == sorted(m for m in RANKED if not m.startswith(NAMED_BY_DJANGO))


def test_imports_run_down():
    upward = [
        f"{module} imports {other}"
        for module, others in imports().items()
        for other in others
        if HEIGHT[other] >= HEIGHT[module]
    ]
    assert upward == []


def test_there_is_no_circle():
    # The ranks forbid one; this names it.
    TopologicalSorter(imports()).prepare()


def test_a_name_means_one_module():
    names = Counter(module.rpartition(".")[2] for module in MODULES)
    assert [name for name, count in names.items() if count > 1] == []


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


def test_a_project_without_dcrf_consumers_imports_nothing_of_dcrf():
    code = (
        "import django, sys; django.setup()\n"
        "from rest_framework import viewsets\n"
        "from rest_channels.routers import DefaultRouter\n"
        "from tests.models import Room\n"
        "class Rooms(viewsets.ModelViewSet):\n"
        "    queryset = Room.objects.all()\n"
        "router = DefaultRouter()\n"
        "router.register('rooms', Rooms)\n"
        "router.as_asgi()\n"
        "print([name for name in sys.modules if name.startswith('djangochannels')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
