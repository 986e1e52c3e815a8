"""
A project with django-tenants, by itself, on a server of its own: a schema a tenant, chosen in
`initial()` by the host.

    python -m tests.support.projects.tenants_project signals 1

Two sockets a tenant follow their invoices while frames of all, from a generator seeded with the
last argument, are interleaved over the pool. Prints, as JSON, what each tenant was ever shown,
holds in the end and lists.
"""

from __future__ import annotations

import json
import os
import random
import socket as sockets
import sys
import threading
import time
import traceback
from typing import Any

import django
from django.conf import settings

CAPTURE, SEED = sys.argv[1], int(sys.argv[2])
NAME = f"rest_channels_tenants_{os.getpid()}"
TENANTS = ("acme", "beta")
SERVER = {
    "HOST": os.environ.get("PGHOST", "127.0.0.1"),
    "USER": os.environ.get("PGUSER", "postgres"),
}
APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"]

settings.configure(
    SECRET_KEY="x" * 50,
    ALLOWED_HOSTS=["*"],
    USE_TZ=True,
    ROOT_URLCONF=__name__,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={
        "default": {
            "ENGINE": "django_tenants.postgresql_backend",
            "NAME": NAME,
            "CONN_MAX_AGE": None,
            **SERVER,
        }
    },
    DATABASE_ROUTERS=["django_tenants.routers.TenantSyncRouter"],
    INSTALLED_APPS=[
        *("django_tenants", *APPS, "rest_framework", "channels", "rest_channels"),
        "tests.support.projects.tenants_app",
    ],
    SHARED_APPS=[
        *("django_tenants", *APPS, "rest_framework", "channels", "rest_channels"),
        "tests.support.projects.tenants_app",
    ],
    TENANT_APPS=["tests.support.projects.tenants_app"],
    TENANT_MODEL="tenants_app.Client",
    TENANT_DOMAIN_MODEL="tenants_app.Domain",
    TENANT_LIMIT_SET_CALLS=bool(SEED % 2),
    REST_CHANNELS={"CAPTURE": CAPTURE, "POLL_SECONDS": 0.5, "WORKER_THREADS": 3},
)
django.setup()
urlpatterns: list[Any] = []


def execute_on_server(statement: str) -> None:
    import psycopg

    place = {"host": SERVER["HOST"], "user": SERVER["USER"], "dbname": "postgres"}
    with psycopg.connect(**place, autocommit=True) as server:
        server.execute(statement)


def make_tenants() -> None:
    from django.core.management import call_command
    from django.db import connection

    from tests.support.projects.tenants_app.models import Client

    call_command("migrate_schemas", schema_name="public", verbosity=0, run_syncdb=True)
    table = "tenants_app_invoice"
    with connection.cursor() as cursor:
        for name in TENANTS:
            Client.objects.create(schema_name=name, name=name)
            cursor.execute(f"CREATE SCHEMA {name}")
            cursor.execute(f"CREATE TABLE {name}.{table} (LIKE public.{table} INCLUDING ALL)")
            if CAPTURE == "triggers":
                copy_triggers(cursor, name, table)


def copy_triggers(cursor: Any, schema: str, table: str) -> None:
    cursor.execute(
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger "
        "WHERE tgrelid = %s::regclass AND NOT tgisinternal",
        [f"public.{table}"],
    )
    for (definition,) in cursor.fetchall():
        cursor.execute(definition.replace(f"ON public.{table}", f"ON {schema}.{table}"))


def application() -> Any:
    from django.db import connection
    from rest_framework.serializers import ModelSerializer

    from rest_channels.routers import DefaultRouter
    from rest_channels.viewsets import ModelConsumerViewSet
    from tests.support.projects.tenants_app.models import Invoice

    class InvoiceSerializer(ModelSerializer):
        class Meta:
            model = Invoice
            fields = ["id", "text"]

    class Invoices(ModelConsumerViewSet):
        queryset = Invoice.objects.order_by("id")
        serializer_class = InvoiceSerializer
        permission_classes: list[Any] = []

        def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
            connection.set_schema(request.get_host().split(".")[0])
            super().initial(request, *args, **kwargs)

    router = DefaultRouter()
    router.register("invoices", Invoices)
    return router.as_asgi()


def serve() -> int:
    import uvicorn

    listener = sockets.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application(), log_level="warning", lifespan="off"))
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return int(listener.getsockname()[1])


class Talker:
    """A client of one tenant."""

    def __init__(self, port: int, tenant: str) -> None:
        from websockets.sync.client import connect

        self.tenant = tenant
        self.shown: list[str] = []
        self.rows: dict[int, str] = {}
        opening = connect(
            f"ws://{tenant}.localhost:{port}/",
            sock=sockets.create_connection(("127.0.0.1", port)),
            proxy=None,
        )
        self.socket = opening.__enter__()
        self.send("subscribe", snapshot=True)

    def send(self, action: str, **payload: Any) -> None:
        payload = {"action": action, "request_id": action, **payload}
        self.socket.send(json.dumps({"stream": "invoices", "payload": payload}))

    def take(self, seconds: float) -> bool:
        """Take the next message, if one comes within that number of seconds."""
        try:
            payload = json.loads(self.socket.recv(timeout=seconds))["payload"]
        except TimeoutError:
            return False
        assert payload["response_status"] < 400, payload
        data = payload["data"]
        rows = data if isinstance(data, list) else [data] if data and "text" in data else []
        self.shown += [row["text"] for row in rows]
        if payload["request_id"] == "subscribe":
            self.rows.update((row["id"], row["text"]) for row in rows)
            if payload["action"] == "delete":
                del self.rows[data["pk"]]
        if payload["request_id"] == "list":
            self.listed = {row["id"]: row["text"] for row in rows}
        return True

    def take_all(self) -> None:
        self.send("list")
        while self.take(2):
            pass


def story() -> dict[str, Any]:
    dice = random.Random(SEED)
    port = serve()
    talkers = [Talker(port, tenant) for tenant in TENANTS * 2]
    for talker in talkers:
        assert talker.take(10)
    for number in range(60):
        talker = dice.choice(talkers)
        text = f"{talker.tenant} {number}"
        match dice.randrange(4):
            case 0 | 1:
                talker.send("create", data={"text": text})
            case 2:
                talker.send("list")
            case 3 if talker.rows:
                pk = dice.choice(sorted(talker.rows))
                talker.send("partial_update", pk=pk, data={"text": text})
        for other in dice.sample(talkers, 2):
            other.take(0.01)
    for talker in talkers:
        talker.take_all()
    return {
        tenant: {
            "shown": sorted({text.split()[0] for t in of for text in t.shown}),
            "is_equal_to_list": [t.rows == t.listed for t in of],
            "count": len(of[0].rows),
        }
        for tenant in TENANTS
        if (of := [t for t in talkers if t.tenant == tenant])
    }


if __name__ == "__main__":
    status = 1
    execute_on_server(f'CREATE DATABASE "{NAME}"')
    try:
        make_tenants()
        print(json.dumps(story()), flush=True)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        execute_on_server(f'DROP DATABASE "{NAME}" WITH (FORCE)')
    # Its server has threads.
    os._exit(status)
