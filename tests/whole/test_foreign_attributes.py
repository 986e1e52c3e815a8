"""
No value travels as an attribute that is set on an object of others.

A response, a view, a request, a database connection or a signal's sender belongs to Django, to REST
framework or to the project: what is set there is typed nowhere, may hide a name of theirs, and is
found by nobody who reads the signatures. Values go by arguments, returned values and classes of our
own; see `rest_channels.live.interface`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import rest_channels

ROOT = Path(rest_channels.__file__).parent

#: Variables and attributes of these names hold objects of others.
FOREIGN = {
    *["request", "http_request", "drf_request", "response", "view", "viewset", "serializer"],
    *["connection", "driver", "cursor", "session", "user", "sender", "instance", "model", "row"],
    *["queryset", "field", "validator", "renderer", "parser", "negotiator", "permission"],
    *["consumer", "protocol", "layer", "channel_layer", "scope", "router"],
}

_OF_DJANGO = "an option of Django's own connection, which has no other setter"
_PATCHES = "a method, not a value: Django sends no signal at that point"

#: The exceptions: the module, the attribute that it sets, and the reason.
ALLOWED = {
    ("authentication", "session.modified"): "Django's own flag, to be set by who has saved",
    ("consumers.user_mixins", "session.modified"): "Django's own flag, to be set by who has saved",
    ("consumers.user_mixins", "session._session_key"): (
        "all who serve a socket save under one key, which SessionBase takes only when it is made"
    ),
    ("contrib.dcrf.hosting", "_consumer.add_group"): (
        "DCRF calls it on itself, and its class is the project's"
    ),
    ("contrib.servers", "_protocol.maxMessagePayloadSize"): "autobahn's own option",
    ("live.capture.coverage", "connection.force_debug_cursor"): _OF_DJANGO,
    ("live.capture.model_signals", "Collector._has_signal_listeners"): _PATCHES,
    ("live.capture.model_signals", "Collector.delete"): _PATCHES,
    ("live.capture.model_signals", "models.Model._save_table"): _PATCHES,
    ("live.capture.model_signals", "models.QuerySet.*"): _PATCHES,
    ("live.log.transactions", "connection.transaction_mode"): _OF_DJANGO,
    ("live.log.transactions", "driver.isolation_level"): "psycopg's own option",
    ("live.visibility.row_loader", "row.__dict__"): (
        "the annotation by which one query reads for many, removed before the project sees the row"
    ),
    ("schema.description", "view.request"): "as DRF's dispatch() sets it",
    ("schema.plain_operations", "request.version"): "as DRF's initial() sets it",
    ("schema.plain_operations", "view.request"): "as DRF's dispatch() sets it",
    ("schema.plain_operations", "view.swagger_fake_view"): (
        "the name by which projects know that a schema is made"
    ),
    ("schema.spectacular_operations", "request.version"): "as drf-spectacular sets it",
    ("schema.spectacular_operations", "view.schema"): "as drf-spectacular sets it",
    ("schema.spectacular_operations", "view.versioning_class"): (
        "drf-spectacular reads the version from a path otherwise, and a socket's does not have it"
    ),
    ("sockets.dispatch", "response.status_code"): "Django's own way to change a response's status",
    (
        "sockets.dispatch",
        "view.response",
    ): "as DRF's dispatch() sets it, which has returned by then",
    ("sockets.field_cache", "field.__dict__"): "a field made here, copied as copy.copy() does",
    ("sockets.field_cache", "serializer.__dict__"): "where DRF's cached_property keeps it",
    ("sockets.handshake", "view.action_map"): "as DRF's as_view() sets it",
    ("sockets.handshake", "view.args"): "as DRF's as_view() sets it",
    ("sockets.handshake", "view.kwargs"): "as DRF's as_view() sets it",
    ("sockets.handshake", "view.request"): "as DRF's dispatch() sets it",
    ("sockets.list_encoding", "response.accepted_renderer"): (
        "as DRF's finalize_response() sets it, and put back after rendering"
    ),
    ("sockets.request", "request.LANGUAGE_CODE"): "as LocaleMiddleware sets it",
    ("test.async_client", "request.__doc__"): "a method of the class around it",
    ("test.base_client", "connection.close_if_unusable_or_obsolete"): (
        "Channels closes a test's connections by this method, and has no setting against it"
    ),
    ("test.base_client", "connection.__dict__"): "where that method is removed again",
    ("test.sync_client", "request.__doc__"): "a method of the class around it",
    ("workers.connection_state", "connection.search_path_set_schemas"): (
        "django-tenants' own note of what it has set, which is no longer true"
    ),
    ("workers.connection_state", "driver.*"): "psycopg's own options, the classes of its cursors",
    ("workers.connections", "connection.close_at"): _OF_DJANGO,
    ("workers.connections", "connection.health_check_done"): _OF_DJANGO,
    ("workers.connections", "connection.health_check_enabled"): _OF_DJANGO,
    ("workers.threads", "BaseDatabaseCreation.destroy_test_db"): _PATCHES,
}


def targets(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the targets of an assignment or a deletion."""
    match node:
        case ast.Assign(targets=found) | ast.Delete(targets=found):
            yield from found
        case (
            ast.AugAssign(target=target)
            | ast.AnnAssign(target=target)
            | ast.For(target=target)
            | ast.AsyncFor(target=target)
            | ast.NamedExpr(target=target)
        ):
            yield target
        case ast.With(items=items) | ast.AsyncWith(items=items):
            yield from (item.optional_vars for item in items if item.optional_vars)


def flat(target: ast.expr) -> Iterator[ast.expr]:
    match target:
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            for part in parts:
                yield from flat(part)
        case ast.Starred(value=part):
            yield from flat(part)
        case _:
            yield target


def attributes_set(node: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """The objects that a node sets attributes on, each with the attribute's name; * for any."""
    for target in targets(node):
        for part in flat(target):
            match part:
                case ast.Attribute(value=owner, attr=name):
                    yield owner, name
                case ast.Subscript(value=namespace):
                    yield from namespaces(namespace)
    match node:
        case ast.Call(
            func=ast.Name(id="setattr" | "delattr")
            | ast.Attribute(attr="__setattr__" | "__delattr__"),
            args=[owner, name, *_],
        ):
            yield owner, name.value if isinstance(name, ast.Constant) else "*"
        case ast.Call(func=ast.Attribute(value=namespace, attr="update" | "setdefault" | "pop")):
            yield from namespaces(namespace)


def namespaces(node: ast.expr) -> Iterator[tuple[ast.expr, str]]:
    match node:
        case ast.Attribute(value=owner, attr="__dict__"):
            yield owner, "__dict__"
        case (
            ast.Call(func=ast.Name(id="vars"), args=[owner])
            | ast.Call(
                func=ast.Attribute(attr="__getattribute__"),
                args=[owner, ast.Constant(value="__dict__")],
            )
        ):
            yield owner, "__dict__"


def imported_from_others(tree: ast.AST) -> set[str]:
    """Names of what a module imports from other packages."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=module, names=names):
                if (module or "").partition(".")[0] != "rest_channels":
                    found |= {alias.asname or alias.name for alias in names}
            case ast.Import(names=names):
                found |= {(alias.asname or alias.name).partition(".")[0] for alias in names}
    return found


def is_foreign(owner: ast.expr, imported: set[str]) -> bool:
    match owner:
        case ast.Name(id=name):
            return name.lstrip("_") in FOREIGN or name in imported
        case ast.Attribute(value=inner, attr=name):
            return name.lstrip("_") in FOREIGN or is_foreign_module(inner, imported)
        case ast.Subscript(value=inner):
            # Django's `connections[alias]`.
            return is_foreign(inner, imported)
        case ast.Call(func=function):
            return is_foreign(function, imported)
    return False


def is_foreign_module(owner: ast.expr, imported: set[str]) -> bool:
    return isinstance(owner, ast.Name) and owner.id in imported


def shown(owner: ast.expr, name: str) -> str:
    if isinstance(owner, ast.Attribute) and owner.attr.lstrip("_") in FOREIGN:
        return f"{owner.attr}.{name}"
    return f"{ast.unparse(owner)}.{name}"


def set_on_others(source: str) -> set[str]:
    tree = ast.parse(source)
    imported = imported_from_others(tree)
    return {
        shown(owner, name)
        for node in ast.walk(tree)
        for owner, name in attributes_set(node)
        if is_foreign(owner, imported)
    }


MODULES = {
    path.relative_to(ROOT)
    .as_posix()
    .removesuffix(".py")
    .removesuffix("/__init__")
    .replace("/", "."): (path.read_text())
    for path in ROOT.rglob("*.py")
}
FOUND = {(module, what) for module, source in MODULES.items() for what in set_on_others(source)}


def test_no_value_is_set_on_an_object_of_others():
    assert sorted(FOUND - ALLOWED.keys()) == []


def test_no_exception_is_left_without_its_code():
    assert sorted(ALLOWED.keys() - FOUND) == []


def test_no_object_is_given_another_class():
    changed = [
        f"{module}: {ast.unparse(node)}"
        for module, source in MODULES.items()
        for node in ast.walk(ast.parse(source))
        for _, name in attributes_set(node)
        if name == "__class__"
    ]
    assert changed == []


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("response.subscribe = 1", "response.subscribe"),
        ("self.request.delivery = self", "request.delivery"),
        ("self._view.shown, x = 1, 2", "_view.shown"),
        ("view.get_serializer_class = lambda: 1", "view.get_serializer_class"),
        ("connection.count += 1", "connection.count"),
        ("connection.note: int = 1", "connection.note"),
        ("del sender.losing", "sender.losing"),
        ("for request.item in items: pass", "request.item"),
        ("with a as request.resource: pass", "request.resource"),
        ("setattr(view, 'shown', 1)", "view.shown"),
        ("setattr(view, name, 1)", "view.*"),
        ("object.__setattr__(view, 'shown', 1)", "view.shown"),
        ("vars(view)['shown'] = 1", "view.__dict__"),
        ("view.__dict__.update(shown=1)", "view.__dict__"),
        ("view.__dict__ = {}", "view.__dict__"),
        ("object.__getattribute__(view, '__dict__')['shown'] = 1", "view.__dict__"),
        (
            "from django.db import connections\nconnections[alias].note = 1",
            "connections[alias].note",
        ),
        ("from django.db import models\nmodels.Model.note = 1", "models.Model.note"),
        ("from rest_framework.views import APIView\nAPIView.note = 1", "APIView.note"),
    ],
)
def test_each_way_to_set_an_attribute_is_found(source, what):
    assert set_on_others(source) == {what}


@pytest.mark.parametrize(
    "source",
    [
        "self.request = request",
        "self.shown: int = 1",
        "request = 1",
        "exchange.stage = 1",
        "view.kwargs['pk'] = 1",
        "from rest_channels.metrics.instruments import Counter\nCounter().value += 1",
    ],
)
def test_what_is_ones_own_is_not_found(source):
    assert set_on_others(source) == set()
