"""System checks: wrong configuration, said with what to type next."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator, OriginValidator
from django.core.checks import ERROR, WARNING, CheckMessage, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.urls import path
from djangochannelsrestframework.consumers import AsyncAPIConsumer
from rest_framework import parsers, renderers, viewsets

import rest_channels
from rest_channels.contrib import servers
from rest_channels.live.capture import triggers
from rest_channels.live.log import store
from rest_channels.models import PendingChange, StoredReply
from rest_channels.routers import DefaultRouter, SimpleRouter
from rest_channels.settings import DEFAULTS
from rest_channels.sockets.connection import StreamConnection
from rest_channels.viewsets import ConsumerViewSetMixin
from tests.models import Message, Room
from tests.support.distribution import bounds_of_extra


class RoomViewSet(viewsets.ModelViewSet):
    queryset = Room.objects.all()


class MessageViewSet(viewsets.ModelViewSet):
    queryset = Message.objects.all()


class OldConsumer(AsyncAPIConsumer):
    pass


def as_websocket(router) -> ProtocolTypeRouter:
    return ProtocolTypeRouter({"websocket": router.as_asgi()})


def routed(viewset=RoomViewSet, *, namespace=None, **others) -> DefaultRouter:
    router = DefaultRouter(namespace=namespace)
    router.register("rooms", viewset)
    for prefix, other in others.items():
        router.register(prefix, other)
    return router


@pytest.fixture(autouse=True)
def lasting_connections(monkeypatch):
    """The tests' own database is none of these tests' business."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)


@pytest.fixture
def check(settings, monkeypatch):
    """Return the messages about an ASGI application, by default a good one."""

    def check(application=None) -> list[CheckMessage]:
        if application is None:
            application = ProtocolTypeRouter({"websocket": routed().as_asgi()})
        monkeypatch.setattr(sys.modules[__name__], "application", application, raising=False)
        settings.ASGI_APPLICATION = f"{__name__}.application"
        return run_checks(tags=["rest_channels"])

    return check


def only(messages: list[CheckMessage], id: str) -> CheckMessage:
    """The one message there is; it has that id, the level its letter stands for, and a hint."""
    [message] = messages
    assert message.id == f"rest_channels.{id}"
    assert message.level == {"E": ERROR, "W": WARNING}[id[0]]
    assert message.hint
    return message


def test_the_default_stack_is_right(check):
    router = routed(messages=MessageViewSet, old=OldConsumer)
    assert check(ProtocolTypeRouter({"websocket": router.as_asgi()})) == []


def test_a_project_without_asgi_application(check, settings):
    check()
    settings.ASGI_APPLICATION = None
    assert run_checks(tags=["rest_channels"]) == []


@pytest.mark.parametrize("name", ["tests.nowhere.application", "tests.test_checks.nothing", "x"])
def test_an_asgi_application_that_cannot_be_imported_is_the_servers_to_report(name, settings):
    settings.ASGI_APPLICATION = name
    assert run_checks(tags=["rest_channels"]) == []


@pytest.mark.parametrize("value", [[], "WORKER_THREADS", None])
def test_e001_no_dictionary(value, check, settings):
    good = check()
    settings.REST_CHANNELS = value
    assert good == []
    assert "must be a dictionary" in only(run_checks(tags=["rest_channels"]), "E001").msg


def test_e001_no_such_setting(check, settings):
    settings.REST_CHANNELS = {"WORKER_THREAD": 4}
    message = only(check(), "E001")
    assert "'WORKER_THREAD'" in message.msg
    assert "WORKER_THREADS" in message.hint


@pytest.mark.parametrize("name", DEFAULTS)
def test_e002_every_setting_is_looked_at(name, check, settings):
    check()
    settings.REST_CHANNELS = {name: object()}
    message = only(run_checks(tags=["rest_channels"]), "E002")
    assert f"REST_CHANNELS[{name!r}]" in message.msg
    assert repr(DEFAULTS[name]) in message.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKER_THREADS", 0),
        ("WORKER_THREADS", "8"),
        ("WORKER_THREADS", True),
        ("MAX_FRAME_BYTES", -1),
        ("MAX_FRAME_BYTES", 1.5),
        ("MAX_QUEUE_BYTES", None),
        ("FRAME_RATE", 0),
        ("FRAME_RATE", "100/s"),
        ("FRAME_RATE", float("nan")),
        ("LEASE_SECONDS", -5),
        ("SHUTDOWN_SECONDS", -1),
        ("SHUTDOWN_SECONDS", None),
        ("THREAD_SENSITIVE", "yes"),
        ("SHORT_CUTS", "off"),
        ("ALLOWED_ORIGINS", "https://example.com"),
        ("ALLOWED_ORIGINS", ["example.com"]),
        ("ALLOWED_ORIGINS", ["https://example.com/"]),
        ("ALLOWED_ORIGINS", ["*"]),
        ("ALLOWED_ORIGINS", ["https://*.example.com"]),
        ("ALLOWED_ORIGINS", ["https://Example.com"]),
        ("PERMISSIONS", ["private"]),
        ("PERMISSIONS", {"private": "rest_framework.permissions.IsAuthenticated"}),
        ("PERMISSIONS", {"private": ["nowhere.Permission"]}),
        ("PERMISSIONS", {"private": [True]}),
        ("CONNECTION_CLASS", "nowhere.Connection"),
        ("CONNECTION_CLASS", "os.path"),
        ("DEMULTIPLEXER_CLASS", dict),
        ("FRAME_CONTEXTS", "contextlib.nullcontext"),
        ("FRAME_CONTEXTS", ["nowhere.context"]),
        ("PASS_CONTEXTS", [True]),
    ],
)
def test_e002_nonsense(name, value, check, settings):
    check()
    settings.REST_CHANNELS = {name: value}
    only(run_checks(tags=["rest_channels"]), "E002")


@pytest.mark.parametrize(
    "good",
    [
        DEFAULTS,
        {"FRAME_RATE": 0.5, "LEASE_SECONDS": 1, "MAX_IN_FLIGHT": 1},
        {"SHUTDOWN_SECONDS": 0, "STATS_SECONDS": 0.5},
        {"ALLOWED_ORIGINS": ["https://example.com", "http://localhost:3000", "capacitor://host"]},
        {"CONNECTION_CLASS": StreamConnection},
        {"FRAME_CONTEXTS": ["contextlib.nullcontext"], "PASS_CONTEXTS": [nullcontext]},
        {"CONNECTION_CLASS": "rest_channels.sockets.connection.StreamConnection"},
    ],
)
def test_good_settings(good, check, settings):
    settings.REST_CHANNELS = good
    assert check() == []


def test_w003_no_origin_check(check):
    for application in (
        URLRouter(routed().urls),
        AuthMiddlewareStack(URLRouter([path("ws/", URLRouter(routed().urls))])),
        OriginValidator(URLRouter(routed().urls), ["*"]),
    ):
        only(check(ProtocolTypeRouter({"websocket": application})), "W003")


def test_an_origin_check_of_channels(check):
    for application in (
        OriginValidator(AuthMiddlewareStack(URLRouter(routed().urls)), ["https://example.com"]),
        AllowedHostsOriginValidator(URLRouter([path("ws/", URLRouter(routed().urls))])),
        AuthMiddlewareStack(routed().as_asgi()),
    ):
        assert check(ProtocolTypeRouter({"websocket": application})) == []


def database(**given):
    """A second database as Django keeps its settings."""
    return {**connections.settings["default"], "CONN_MAX_AGE": 0, "OPTIONS": {}, **given}


@pytest.mark.parametrize(
    "engine",
    ["django.db.backends.postgresql", "django.contrib.gis.db.backends.postgis"],
)
def test_w004_postgresql_without_persistent_connections(engine, check, monkeypatch, settings):
    check()
    settings.REST_CHANNELS = {"CONNECTION_SECONDS": 0}
    monkeypatch.setattr(connections, "settings", {"other": database(ENGINE=engine)})
    message = only(run_checks(tags=["rest_channels"]), "W004")
    assert "'other'" in message.msg
    assert "CONNECTION_SECONDS" in message.hint
    settings.REST_CHANNELS = {}
    assert run_checks(tags=["rest_channels"]) == []


@pytest.mark.parametrize(
    "good",
    [
        {"CONN_MAX_AGE": 60},
        {"CONN_MAX_AGE": None},
        {"OPTIONS": {"pool": True}},
        {"OPTIONS": {"pool": {"min_size": 2}}},
        {"ENGINE": "django.db.backends.sqlite3"},
    ],
)
def test_databases_that_keep_their_connections(good, check, monkeypatch, settings):
    check()
    settings.REST_CHANNELS = {"CONNECTION_SECONDS": 0}
    given = {"ENGINE": "django.db.backends.postgresql", **good}
    monkeypatch.setattr(connections, "settings", {"other": database(**given)})
    assert run_checks(tags=["rest_channels"]) == []


@pytest.fixture
def no_log(db):
    """A database that was migrated before this package was installed."""
    triggers.remove("default")
    drop(PendingChange)
    store.forget_tables()
    yield
    # The tables come back with the test's rollback, their absence with nothing.
    store.forget_tables()


def drop(model):
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {model._meta.db_table}")


def check_database() -> list[CheckMessage]:
    """Return the messages of `manage.py check --database default` about this package."""
    messages = run_checks(databases=["default"])
    return [message for message in messages if message.id.startswith("rest_channels.")]


def test_checks_by_tag_do_not_open_the_database(check, monkeypatch):
    def connect():
        raise AssertionError("The database was opened.")

    monkeypatch.setattr(connection, "ensure_connection", connect)
    assert check() == []
    # As Django does from 6.1 on.
    assert run_checks(tags=["rest_channels"], databases=["default"]) == []


def test_w009_no_tables(check, no_log):
    assert check() == []
    message = only(check_database(), "W009")
    assert "'default'" in message.msg
    assert "migrate --database default" in message.hint


def test_w009_no_table_of_stored_replies(check, db):
    """As after an upgrade without `migrate`."""
    check()
    drop(StoredReply)
    message = only(check_database(), "W009")
    assert "'idempotency_key'" in message.msg and "log" not in message.msg
    assert "migrate --database default" in message.hint


def test_the_tables_are_there(check, db):
    check()
    assert check_database() == []


def test_no_tables_where_nothing_is_captured(check, no_log, settings):
    check()
    settings.REST_CHANNELS = {"CAPTURE": None}
    assert check_database() == []


class Elsewhere:
    """A database router that keeps the log out of a database."""

    def allow_migrate(self, db, app_label, **hints):
        return app_label != "rest_channels"


def test_no_tables_where_a_router_wants_none(check, no_log, settings):
    check()
    settings.DATABASE_ROUTERS = [f"{__name__}.Elsewhere"]
    assert check_database() == []


def test_no_tables_before_the_first_migrate(check, no_log):
    check()
    drop(MigrationRecorder.Migration)
    assert check_database() == []


def test_w010_triggers_are_missing(check, db, settings):
    check()
    triggers.remove("default")
    settings.REST_CHANNELS = {"CAPTURE": "triggers", "CAPTURE_MODELS": ["tests.Room"]}
    message = only(check_database(), "W010")
    assert "subscriptions do not see writes to: tests.Room." in message.msg
    assert "sync_triggers --database default" in message.hint
    triggers.sync("default")
    assert check_database() == []


def test_w010_triggers_of_another_setting(check, db, settings):
    check()
    settings.REST_CHANNELS = {"CAPTURE": "triggers", "CAPTURE_MODELS": ["tests.Room"]}
    triggers.sync("default")
    settings.REST_CHANNELS = {"CAPTURE": "signals"}
    assert "superfluous triggers" in only(check_database(), "W010").msg
    triggers.sync("default")
    assert check_database() == []


def test_e011_no_triggers_for_this_kind_of_database(check, settings, monkeypatch):
    monkeypatch.setattr(connections["default"], "vendor", "mysql")
    monkeypatch.setattr(connections["default"], "display_name", "MariaDB")
    assert check() == []
    settings.REST_CHANNELS = {"CAPTURE": "triggers"}
    message = only(check(), "E011")
    assert "'default' (MariaDB)" in message.msg
    assert "'auto'" in message.hint
    settings.DATABASE_ROUTERS = [f"{__name__}.Elsewhere"]
    assert check() == []


def test_e012_a_database_that_does_not_commit_by_itself(check, settings, monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "AUTOCOMMIT", False)
    message = only(check(), "E012")
    assert "DATABASES['default']" in message.msg
    assert "ATOMIC_REQUESTS" in message.hint
    settings.REST_CHANNELS = {"CAPTURE": None}
    assert check() == []
    settings.REST_CHANNELS = {}
    settings.DATABASE_ROUTERS = [f"{__name__}.Elsewhere"]
    assert check() == []


@pytest.fixture
def installed(monkeypatch):
    """The versions of servers that are installed, by name."""
    found = {}

    def version(name):
        if name not in found:
            raise PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(servers, "version", version)
    return found


@pytest.mark.parametrize("version", ["0.35.0", "0.50.0", "0.52.0", "0.52"])
def test_w013_a_uvicorn_that_does_not_wait(version, check, installed):
    installed["uvicorn"] = version
    message = only(check(), "W013")
    assert f"uvicorn {version} is installed" in message.msg
    assert "uvicorn>=0.52.1" in message.hint


@pytest.mark.parametrize("version", ["3.0.2", "4.2.1"])
def test_w013_a_daphne_that_bounds_nothing(version, check, installed):
    installed["daphne"] = version
    message = only(check(), "W013")
    assert f"daphne {version} is installed" in message.msg
    assert "daphne>=4.2.2" in message.hint


def test_w013_names_all_servers_that_are_too_old(check, installed):
    installed.update(uvicorn="0.51.0", daphne="4.2.1")
    assert [m.msg.split()[0] for m in check()] == ["uvicorn", "daphne"]


@pytest.mark.parametrize(
    "good", [{}, {"uvicorn": "0.52.1", "daphne": "4.2.2"}, {"uvicorn": "1.0", "daphne": "10.0.0"}]
)
def test_servers_that_will_do(good, check, installed):
    installed.update(good)
    assert check() == []


def test_w013_asks_for_what_the_extras_ask_for():
    assert {name: bound.oldest for name, bound in servers.BOUNDS.items()} == {
        name: bounds_of_extra(name)[name] for name in servers.BOUNDS
    }


URL = "redis://localhost:6379/0"
CORE = "channels_redis.core.RedisChannelLayer"


def layers(backend=CORE, **config):
    return {"default": {"BACKEND": backend, "CONFIG": config}}


@pytest.mark.parametrize(
    "hosts",
    [
        None,
        [],
        [URL],
        [("localhost", 6379)],
        [{"address": URL}],
        [{"host": "localhost", "port": 6379}],
        [{"address": URL, "socket_timeout": 5}],
        [f"{URL}?socket_timeout=3"],
        [{"sentinels": [("localhost", 26379)], "master_name": "one"}],
        [{"address": URL, "socket_timeout": None}, URL],
    ],
)
def test_w005_connections_that_give_up_waiting(hosts, check, settings, monkeypatch):
    monkeypatch.setattr("redis.VERSION", (8, 0, 0))
    settings.CHANNEL_LAYERS = layers(hosts=hosts)
    message = only(check(), "W005")
    assert "'default'" in message.msg
    assert "socket_timeout" in message.hint


def test_w005_without_config(check, settings, monkeypatch):
    monkeypatch.setattr("redis.VERSION", (8, 0, 0))
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": CORE}}
    only(check(), "W005")


@pytest.mark.parametrize(
    "good",
    [
        layers(hosts=[{"address": URL, "socket_timeout": None}]),
        layers(hosts=[{"address": URL, "socket_timeout": 10}]),
        layers(hosts=[{"host": "localhost", "port": 6379, "socket_timeout": 6}]),
        layers(hosts=[f"{URL}?socket_timeout=10"]),
        # It waits 0.1 seconds at a time.
        layers("channels_redis.pubsub.RedisPubSubChannelLayer", hosts=[URL]),
        layers("channels.layers.InMemoryChannelLayer"),
        {},
    ],
)
def test_layers_that_wait(good, check, settings, monkeypatch):
    monkeypatch.setattr("redis.VERSION", (8, 0, 0))
    settings.CHANNEL_LAYERS = good
    assert check() == []


def test_older_redis_py_waits_for_ever(check, settings, monkeypatch):
    monkeypatch.setattr("redis.VERSION", (7, 1, 0))
    settings.CHANNEL_LAYERS = layers(hosts=[URL])
    assert check() == []


def both(one: SimpleRouter, other: SimpleRouter):
    """Two routers below one application."""
    tree = URLRouter([path("one/", URLRouter(one.urls)), path("other/", URLRouter(other.urls))])
    return ProtocolTypeRouter({"websocket": OriginValidator(tree, ["https://example.com"])})


def test_w006_two_viewsets_of_one_basename(check):
    other = SimpleRouter()
    other.register("messages", MessageViewSet, basename="room")
    message = only(check(both(routed(), other)), "W006")
    assert "'messages', 'rooms'" in message.msg
    assert "basename=" in message.hint


def test_one_router_refuses_a_basename_twice():
    router = routed()
    with pytest.raises(ImproperlyConfigured, match="room"):
        router.register("messages", MessageViewSet, basename="room")


def test_basenames_of_two_namespaces(check):
    class OtherRoomViewSet(RoomViewSet):
        pass

    assert check(both(routed(namespace="v1"), routed(OtherRoomViewSet, namespace="v2"))) == []


def test_one_viewset_under_two_paths(check):
    router = routed()
    assert check(both(router, router)) == []
    assert check(both(routed(), routed())) == []


class Unwritable(RoomViewSet):
    renderer_classes = [renderers.BrowsableAPIRenderer]


@pytest.mark.parametrize(
    ("attribute", "value", "requirement"),
    [
        ("live_tables", ["tests.Nothing"], "'app_label.Model'"),
        ("live_tables", "tests.Room", "a list"),
        ("live_tables", [3], "a model"),
        ("live_seconds", 0, "above 0"),
        ("live_seconds", "5", "a number"),
        ("live_seconds", True, "a number"),
    ],
)
def test_e015_nonsense_about_what_cannot_be_seen(attribute, value, requirement, check):
    viewset = type("Odd", (RoomViewSet,), {attribute: value})
    message = only(check(as_websocket(routed(viewset))), "E015")
    assert attribute in message.msg
    assert requirement in message.msg


@pytest.mark.parametrize("tables", [[Room], ["tests.Room"], ("tests_room",), []])
def test_live_tables_are_models_labels_or_tables(tables, check):
    viewset = type("Right", (RoomViewSet,), {"live_tables": tables, "live_seconds": 0.5})
    assert check(as_websocket(routed(viewset))) == []


def test_w016_a_model_whose_writes_are_not_captured(check, settings):
    settings.REST_CHANNELS = {"CAPTURE_MODELS": ["auth"]}
    message = only(check(), "W016")
    assert "tests.Room" in message.msg
    assert "live_seconds" in message.hint
    polled = type("Polled", (RoomViewSet,), {"live_seconds": 5})
    assert check(as_websocket(routed(polled))) == []
    offline = type("Offline", (RoomViewSet,), {"live": False})
    assert check(as_websocket(routed(offline))) == []


def test_w016_an_unmanaged_model_without_triggers(check, settings, monkeypatch):
    monkeypatch.setattr(Room._meta, "managed", False)
    assert check() == []
    settings.REST_CHANNELS = {"CAPTURE": "signals"}
    assert "unmanaged" in only(check(), "W016").msg
    settings.REST_CHANNELS = {"CAPTURE": "triggers"}
    assert [m.id for m in check()] in ([], ["rest_channels.E011"])


# Checks that name things name all of them


def test_every_origin_and_permission_that_is_wrong_is_named(check, settings):
    check()
    settings.REST_CHANNELS = {
        "ALLOWED_ORIGINS": ["*", "https://example.com", "example.com"],
        "PERMISSIONS": {"a": "text", "b": [True, "nowhere.Permission"], "c": ["no.Where"]},
    }
    origins, permissions = (m.msg for m in run_checks(tags=["rest_channels"]))
    assert "unlike '*', 'example.com'" in origins
    for wrong in ("'a' must be a list", "True of 'b'", "'nowhere.Permission' of 'b'", "'no.Where'"):
        assert wrong in permissions


def test_every_socket_without_an_origin_check_is_named(check):
    message = only(check(ProtocolTypeRouter({"websocket": URLRouter(routed().urls)})), "W003")
    assert "any origin: /, /rooms/, /rooms/(?P<pk>[^/.]+)/." in message.msg


def test_every_table_without_a_trigger_is_named(check, db, settings):
    check()
    labels = ["auth.Group", "auth.User", *(f"tests.{m}" for m in ("Room", "Message", "Label"))]
    labels += ["tests.Note", "auth.Permission"]
    settings.REST_CHANNELS = {"CAPTURE": "triggers", "CAPTURE_MODELS": []}
    triggers.sync("default")
    settings.REST_CHANNELS = {"CAPTURE": "triggers", "CAPTURE_MODELS": labels}
    message = only(check_database(), "W010").msg
    assert [label for label in labels if label not in message] == []


def test_every_viewset_that_relies_on_wrong_defaults_is_named(check, monkeypatch):
    class Halls(RoomViewSet):
        renderer_classes = [renderers.BrowsableAPIRenderer]

    class Attics(RoomViewSet):
        renderer_classes = [renderers.BrowsableAPIRenderer]

    monkeypatch.setattr(
        "rest_channels.sockets.stream_checks.api_settings.DEFAULT_RENDERER_CLASSES",
        Halls.renderer_classes,
    )
    router = DefaultRouter()
    router.register("halls", Halls, basename="hall")
    router.register("attics", Attics, basename="attic")
    message = only(check(router.as_asgi()), "W007")
    assert "(used by Attics, Halls)" in message.msg


class Unreadable(RoomViewSet):
    parser_classes = [parsers.FormParser, parsers.MultiPartParser]


def test_w007_no_renderer_for_json(check):
    message = only(check(routed(Unwritable).as_asgi()), "W007")
    assert message.obj.__name__ == "Unwritable"
    assert "JSONRenderer" in message.hint


def test_w008_no_parser_for_json(check):
    message = only(check(routed(Unreadable).as_asgi()), "W008")
    assert message.obj.__name__ == "Unreadable"
    assert "JSONParser" in message.hint


def test_what_else_reads_and_writes_json(check):
    class CamelCaseRenderer(renderers.JSONRenderer):
        media_type = "application/vnd.api+json"

    class Camel(ConsumerViewSetMixin, RoomViewSet):
        renderer_classes = [renderers.BrowsableAPIRenderer, CamelCaseRenderer]
        parser_classes = [parsers.FormParser, parsers.FileUploadParser]

    assert check(routed(Camel).as_asgi()) == []


# In a project of its own

SETTINGS = """
INSTALLED_APPS += ["rest_framework", "channels", "rest_channels"]
ASGI_APPLICATION = "fresh.asgi.application"
"""

ASGI = """
import os

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fresh.settings")
http = get_asgi_application()

from django.contrib.auth.models import Group, User
from rest_framework.viewsets import ModelViewSet

from rest_channels.routers import DefaultRouter


class UserViewSet(ModelViewSet):
    queryset = User.objects.all()


class GroupViewSet(ModelViewSet):
    queryset = Group.objects.all()


router = DefaultRouter()
router.register("users", UserViewSet)
router.register("groups", GroupViewSet)
application = ProtocolTypeRouter({"http": http, "websocket": router.as_asgi()})
"""


class Project:
    """A project of `django-admin startproject`, with this package in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.run("-m", "django", "startproject", "fresh", ".")
        self.add(SETTINGS)
        (directory / "fresh" / "asgi.py").write_text(ASGI)

    def add(self, settings: str) -> None:
        with open(self.directory / "fresh" / "settings.py", "a") as file:
            file.write(settings)

    def check(self) -> str:
        return self.run("manage.py", "check")

    def run(self, *arguments: str) -> str:
        environment = {n: v for n, v in os.environ.items() if n != "DJANGO_SETTINGS_MODULE"}
        environment["PYTHONPATH"] = str(Path(rest_channels.__file__).parents[1])
        finished = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
        )
        return finished.stdout + finished.stderr


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path)


def test_a_fresh_project_has_no_issues(project):
    assert "no issues (0 silenced)" in project.check()


def test_what_a_fresh_project_is_told(project):
    project.add("REST_CHANNELS = {'WORKER_THREADS': 0, 'WORKERS': 1}\n")
    output = project.check()
    assert "(rest_channels.E001) REST_CHANNELS has no setting 'WORKERS'." in output
    assert "(rest_channels.E002) REST_CHANNELS['WORKER_THREADS'] is 0" in output
    assert "HINT: The default is 8." in output


def test_defaults_of_drf_that_cannot_apply_are_said_once(project):
    project.add(
        "REST_FRAMEWORK = {\n"
        "    'DEFAULT_RENDERER_CLASSES': ['rest_framework.renderers.BrowsableAPIRenderer'],\n"
        "    'DEFAULT_PARSER_CLASSES': ['rest_framework.parsers.FormParser'],\n"
        "}\n"
    )
    output = project.check()
    assert output.count("rest_channels.W007") == output.count("rest_channels.W008") == 1
    assert "to REST_FRAMEWORK['DEFAULT_RENDERER_CLASSES']" in output
    assert "to REST_FRAMEWORK['DEFAULT_PARSER_CLASSES']" in output


def test_not_installed(project):
    project.add("INSTALLED_APPS.remove('rest_channels')\n")
    # No check of ours runs then: importing the routes says it.
    output = project.run("-c", "import fresh.asgi")
    assert "ImproperlyConfigured: Add 'rest_channels' to INSTALLED_APPS" in output
