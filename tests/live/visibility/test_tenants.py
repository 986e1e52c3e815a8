"""Projects in which the state of a database connection, or of a thread, decides who sees what."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
from contextvars import ContextVar
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.db.backends.signals import connection_created
from rest_framework import serializers
from rest_framework.response import Response

from rest_channels.live.visibility import thread_locals
from rest_channels.test import SocketClient
from tests.models import Room
from tests.support.greeting_rooms import Rooms, RoomSerializer
from tests.support.subscription_stories import event, routes, run, subscribed, written
from tests.support.talk import talking_to

pytestmark = pytest.mark.django_db(transaction=True)

# Roles belong to the server, which other runs of the tests may use at the same time.
ROLE = f"rest_channels_tenant_{os.getpid()}"

on_postgresql = pytest.mark.only_on("postgresql")


def execute(sql, params=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


@pytest.fixture
def policies():
    """A row is of the tenant that its name begins with, for all but the owner of the tables."""
    execute(f"DROP ROLE IF EXISTS {ROLE}")
    execute(f"CREATE ROLE {ROLE}")
    execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}")
    execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {ROLE}")
    execute("ALTER TABLE tests_room ENABLE ROW LEVEL SECURITY")
    execute(
        "CREATE POLICY own ON tests_room USING "
        "(name LIKE current_setting('app.tenant', true) || '-%%')".replace("%%", "%")
    )
    yield
    execute("DROP POLICY own ON tests_room")
    execute("ALTER TABLE tests_room DISABLE ROW LEVEL SECURITY")
    execute(f"DROP OWNED BY {ROLE}")
    execute(f"DROP ROLE {ROLE}")


class Tenants(Rooms):
    """The host says the tenant."""

    authentication_classes = []

    def initial(self, request, *args, **kwargs):
        self.enter(request.get_host().split(".")[0])
        super().initial(request, *args, **kwargs)

    def enter(self, tenant):
        raise NotImplementedError


class BySession(Tenants):
    def enter(self, tenant):
        execute(f"SET ROLE {ROLE}")
        execute("SELECT set_config('app.tenant', %s, false)", [tenant])


class ByRawCursor(Tenants):
    def enter(self, tenant):
        connection.ensure_connection()
        with connection.connection.cursor() as raw:
            raw.execute(f"SET ROLE {ROLE}")
            raw.execute(f"SET app.tenant = '{tenant}'")


class ByFunction(Tenants):
    """The name of the function does not say what it does."""

    def enter(self, tenant):
        execute("SELECT enter(%s)", [tenant])


class AroundDispatch(Tenants):
    """The state ends with `dispatch`, as it does for `list`."""

    def dispatch(self, request, *args, **kwargs):
        BySession.enter(self, request.get_host().split(".")[0])
        try:
            return super().dispatch(request, *args, **kwargs)
        finally:
            execute("RESET ROLE")
            execute("RESET app.tenant")

    def enter(self, tenant):
        pass


class ByLocal(Tenants):
    """For the request's transaction: with ATOMIC_REQUESTS."""

    def enter(self, tenant):
        execute(f"SET LOCAL ROLE {ROLE}")
        execute("SELECT set_config('app.tenant', %s, true)", [tenant])


@pytest.fixture
def function():
    execute(
        "CREATE FUNCTION enter(tenant text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN "
        f"PERFORM set_config('role', '{ROLE}', false); "
        "PERFORM set_config('app.tenant', tenant, false); END $$"
    )
    yield
    execute("DROP FUNCTION enter")


def host(tenant):
    return {"host": f"{tenant}.localhost"}


async def two_tenants(viewset, others=()):
    """Two sockets side by side: what each holds after rows of both were written."""
    await written(Room.objects.create, pk=1, name="acme-1")
    await written(Room.objects.create, pk=2, name="beta-1")
    application = routes(viewset)
    async with (
        talking_to(application, "/", host("acme")) as acme,
        talking_to(application, "/", host("beta")) as beta,
    ):
        assert await subscribed(acme) == [{"id": 1, "name": "acme-1"}]
        assert await subscribed(beta) == [{"id": 2, "name": "beta-1"}]
        await written(lambda: Room.objects.get(pk=1).save())
        await written(Room.objects.create, pk=3, name="beta-2")
        assert await event(beta) == ("create", {"id": 3, "name": "beta-2"})
        await written(Room.objects.create, pk=4, name="acme-2")
        assert await event(acme) == ("create", {"id": 4, "name": "acme-2"})
        assert (await acme.ask("list"))["data"] == [
            {"id": 1, "name": "acme-1"},
            {"id": 4, "name": "acme-2"},
        ]
        await written(lambda: Room.objects.get(pk=4).delete())
        assert await event(acme) == ("delete", {"pk": 4})


@pytest.fixture
def any_host(settings):
    settings.ALLOWED_HOSTS = ["*"]


pytestmark = [pytestmark, pytest.mark.usefixtures("any_host")]


@on_postgresql
@pytest.mark.parametrize("viewset", [BySession, ByRawCursor, ByFunction, AroundDispatch])
def test_rows_are_read_under_the_policies_of_who_subscribes(viewset, policies, function):
    run(lambda: two_tenants(viewset))


@on_postgresql
def test_a_setting_of_the_transaction_holds_with_atomic_requests(policies, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    run(lambda: two_tenants(ByLocal))


@on_postgresql
def test_a_setting_that_list_has_lost_is_refused(policies, caplog):
    async def story():
        async with talking_to(routes(ByLocal), "/", host("acme")) as socket:
            reply = await socket.ask("subscribe", request_id="s", snapshot=True)
            assert (reply["response_status"], reply["codes"]) == (400, ["cannot_subscribe"])
            assert (await socket.ask("list"))["response_status"] == 200

    run(story)
    assert "ATOMIC_REQUESTS" in caplog.text


@on_postgresql
@pytest.mark.parametrize(
    "statement", ["LISTEN x", "SELECT pg_advisory_lock(1)", "PREPARE x AS SELECT 1", "COMMIT"]
)
def test_what_no_rollback_undoes_is_refused(statement, caplog):
    class Lasting(Tenants):
        def enter(self, tenant):
            execute(statement)

    run(lambda: is_refused(Lasting))
    assert "Lasting.list are refused" in caplog.text


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize("statement", ["PRAGMA query_only = 0", "ATTACH ':memory:' AS acme"])
@pytest.mark.parametrize("is_raw", [False, True])
def test_on_sqlite_a_session_has_no_state_to_restore(statement, is_raw, caplog):
    class Lasting(Tenants):
        def enter(self, tenant):
            if is_raw:
                connection.ensure_connection()
                connection.connection.execute(statement)
            else:
                execute(statement)

    run(lambda: is_refused(Lasting))


async def is_refused(viewset):
    async with talking_to(routes(viewset), "/", host("acme")) as socket:
        reply = await socket.ask("subscribe", request_id="s", snapshot=True)
        assert (reply["response_status"], reply["codes"]) == (400, ["cannot_subscribe"]), reply
    # Others receive it as before.
    async with talking_to(routes(Plain), "/", host("beta")) as socket:
        assert await subscribed(socket) == []
        await written(Room.objects.create, name="lobby")
        assert (await event(socket))[0] == "create"


class Plain(Rooms):
    authentication_classes = []


@on_postgresql
def test_a_row_and_a_resume_are_read_under_the_policies_too(policies):
    async def story():
        await written(Room.objects.create, pk=1, name="acme-1")
        await written(Room.objects.create, pk=2, name="beta-1")
        application = routes(BySession)
        async with talking_to(application, "/", host("acme")) as acme:
            hidden = await acme.ask("subscribe_instance", request_id="r", pk=2, snapshot=True)
            assert hidden["response_status"] == 404
            row = await acme.ask("subscribe_instance", request_id="r", pk=1, snapshot=True)
            assert row["data"] == {"id": 1, "name": "acme-1"}
            await written(lambda: Room.objects.get(pk=1).delete())
            assert await event(acme) == ("delete", {"pk": 1})
            since = (await acme.ask("subscribe", request_id="s", snapshot=True))["position"]
        await written(Room.objects.create, pk=3, name="acme-3")
        await written(Room.objects.create, pk=4, name="beta-4")
        async with talking_to(application, "/", host("acme")) as acme:
            reply = await acme.ask("subscribe", request_id="s", since=since, held=[])
            assert reply["resumed"] is True
            assert await event(acme) == ("create", {"id": 3, "name": "acme-3"})
            await written(Room.objects.create, pk=5, name="acme-5")
            assert await event(acme) == ("create", {"id": 5, "name": "acme-5"})

    run(story)


@on_postgresql
def test_who_moves_to_another_tenant_is_told_the_difference(policies):
    tenant_of = {}

    class Moving(BySession):
        def enter(self, tenant):
            super().enter(tenant_of.get("all", tenant))

    async def story():
        await written(Room.objects.create, pk=1, name="acme-1")
        await written(Room.objects.create, pk=2, name="beta-1")
        async with talking_to(routes(Moving), "/", host("acme")) as socket:
            assert await subscribed(socket) == [{"id": 1, "name": "acme-1"}]
            tenant_of["all"] = "beta"
            await written(Room.objects.create, pk=3, name="beta-2")
            told = [await event(socket) for _ in range(3)]
            assert sorted(told, key=str) == [
                ("create", {"id": 2, "name": "beta-1"}),
                ("create", {"id": 3, "name": "beta-2"}),
                ("delete", {"pk": 1}),
            ]

    run(story)


# Thread-locals and context variables

here = threading.local()
name_here: ContextVar[str] = ContextVar("name_here", default="")


def tenant_here():
    return getattr(here, "tenant", "") or name_here.get()


class SaysTenant(RoomSerializer):
    """Read when rows are shown, not when the queryset is made."""

    tenant = serializers.SerializerMethodField()

    def get_tenant(self, room):
        return tenant_here()

    class Meta(RoomSerializer.Meta):
        fields = ["name", "tenant"]


class ByThread(Tenants):
    serializer_class = SaysTenant

    def enter(self, tenant):
        here.tenant = tenant


class ByThreadAround(ByThread):
    def dispatch(self, request, *args, **kwargs):
        here.tenant = request.get_host().split(".")[0]
        try:
            return super().dispatch(request, *args, **kwargs)
        finally:
            del here.tenant

    def enter(self, tenant):
        pass


class ByContext(ByThread):
    def enter(self, tenant):
        name_here.set(tenant)


class ByAttribute(Tenants):
    class serializer_class(SaysTenant):
        def get_tenant(self, room):
            return connection.current_tenant

    def enter(self, tenant):
        connection.current_tenant = tenant


class ByLateThread(Tenants):
    """The thread-local is made when it is first needed."""

    made: list[threading.local] = []

    class serializer_class(SaysTenant):
        def get_tenant(self, room):
            return ByLateThread.made[0].tenant

    def enter(self, tenant):
        if not self.made:
            self.made.append(threading.local())
        self.made[0].tenant = tenant


@pytest.mark.parametrize(
    "viewset", [ByThread, ByThreadAround, ByContext, ByAttribute, ByLateThread]
)
def test_texts_are_made_in_the_state_of_who_subscribes(viewset):
    async def story():
        application = routes(viewset)
        async with (
            talking_to(application, "/", host("acme")) as acme,
            talking_to(application, "/", host("beta")) as beta,
        ):
            assert await subscribed(acme) == await subscribed(beta) == []
            await written(Room.objects.create, name="lobby")
            assert await event(acme) == ("create", {"name": "lobby", "tenant": "acme"})
            assert await event(beta) == ("create", {"name": "lobby", "tenant": "beta"})

    run(story)
    assert not hasattr(here, "tenant")


@pytest.mark.only_on("sqlite")
def test_a_function_that_is_made_for_who_asks():
    class ByOwnFunction(Tenants):
        def enter(self, tenant):
            connection.ensure_connection()
            connection.connection.create_function("tenant", 0, lambda: tenant)

        def get_queryset(self):
            return Room.objects.extra(where=["name LIKE tenant() || '-%%'"]).order_by("id")

    run(lambda: two_tenants(ByOwnFunction))


def give_prefix(connection, **kwargs):
    if connection.vendor == "sqlite":
        connection.connection.create_function("prefix", 1, lambda name: name[:4])


connection_created.connect(give_prefix)


@pytest.mark.only_on("sqlite")
def test_a_function_of_each_connection_is_nobodys_own(caplog):
    class Prefixed(Plain):
        def get_queryset(self):
            return Room.objects.extra(where=["prefix(name) = 'acme'"]).order_by("id")

    async def story():
        async with talking_to(routes(Prefixed)) as socket:
            await subscribed(socket)
            await written(Room.objects.create, name="acme-1")
            assert (await event(socket))[0] == "create"

    run(story)
    assert "leaves state" not in caplog.text


@pytest.fixture(params=[False, True], ids=["tracked", "frozen"])
def objects_that_gc_may_hide(request, monkeypatch):
    """A server that forks freezes all objects, which `gc.get_objects()` does not return then."""
    monkeypatch.setattr(thread_locals, "_last", thread_locals._NEVER)
    if request.param:
        gc.freeze()
    yield
    gc.unfreeze()


def test_state_that_a_serializer_sets_is_not_the_next_ones(objects_that_gc_may_hide):
    class Sets(ByThread):
        class serializer_class(SaysTenant):
            def get_tenant(self, room):
                found = tenant_here()
                here.tenant = self.context["request"].get_host().split(".")[0]
                return found

        def enter(self, tenant):
            pass

    async def story():
        application = routes(Sets)
        async with (
            talking_to(application, "/", host("acme")) as acme,
            talking_to(application, "/", host("beta")) as beta,
        ):
            await subscribed(acme)
            await subscribed(beta)
            await written(Room.objects.create, name="lobby")
            assert (await event(acme))[1]["tenant"] == ""
            assert (await event(beta))[1]["tenant"] == ""

    run(story)


# Positions


@on_postgresql
def test_a_position_of_one_tenant_is_of_no_use_to_another(policies):
    async def story():
        application = routes(BySession)
        async with talking_to(application, "/", host("acme")) as acme:
            position = (await acme.ask("subscribe", request_id="s", snapshot=True))["position"]
            again = await acme.ask("subscribe", request_id="s", since=position, held=[])
            assert again["resumed"] is True
        async with talking_to(application, "/", host("beta")) as beta:
            reply = await beta.ask("subscribe", request_id="s", since=position, held=[])
            assert reply["resumed"] is False
            assert (await event(beta))[0] == "reset"

    run(story)


def test_tenants_that_are_values_of_any_type():
    class ByUuid(ByThread):
        def initial(self, request, *args, **kwargs):
            here.tenant = UUID(request.headers["tenant"])
            super(Tenants, self).initial(request, *args, **kwargs)

    async def story():
        application = routes(ByUuid)
        tenants = [{"tenant": str(UUID(int=number))} for number in (1, 2)]
        async with talking_to(application, "/", tenants[0]) as acme:
            position = (await acme.ask("subscribe", request_id="s", snapshot=True))["position"]
        for tenant, resumes in zip(tenants, (True, False), strict=True):
            async with talking_to(application, "/", tenant) as socket:
                reply = await socket.ask("subscribe", request_id="s", since=position)
                assert reply["resumed"] is resumes

    run(story)


# From one frame to the next


class Leaving(Plain):
    """The next frame finds what a frame has left in the session."""

    def create(self, request, *args, **kwargs):
        execute(request.data["sql"])
        return Response()

    def list(self, request, *args, **kwargs):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('app.tenant', true), current_user, "
                "current_setting('search_path')"
            )
            return Response(cursor.fetchone())


@on_postgresql
@pytest.mark.parametrize(
    "sql",
    [
        "SET app.tenant = 'acme'",
        "SELECT set_config('app.tenant', 'acme', false)",
        f"SET ROLE {ROLE}",
        "SET search_path = pg_catalog",
        "SELECT enter('acme')",
        "DO $$ BEGIN PERFORM set_config('app.tenant', 'acme', false); END $$",
    ],
)
def test_no_frame_finds_what_another_has_set(sql, policies, function, settings):
    settings.REST_CHANNELS = {"WORKER_THREADS": 1}

    async def story():
        async with talking_to(routes(Leaving)) as one, talking_to(routes(Leaving)) as other:
            before = (await other.ask("list"))["data"]
            assert (await one.ask("create", data={"sql": sql}))["response_status"] == 200
            after = (await other.ask("list"))["data"]
            assert [value or None for value in after] == [value or None for value in before]

    run(story)


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize("is_raw", [False, True])
def test_on_sqlite_no_frame_finds_what_another_has_attached(is_raw, settings):
    settings.REST_CHANNELS = {"WORKER_THREADS": 1}

    class Attaching(Plain):
        def create(self, request, *args, **kwargs):
            connection.ensure_connection()
            (connection.connection.execute if is_raw else execute)("ATTACH ':memory:' AS acme")
            return Response()

        def list(self, request, *args, **kwargs):
            with connection.cursor() as cursor:
                return Response([row[1] for row in cursor.execute("PRAGMA database_list")])

    async def story():
        async with talking_to(routes(Attaching)) as socket:
            assert (await socket.ask("create"))["response_status"] == 200
            assert (await socket.ask("list"))["data"] == ["main"]

    run(story)


def test_no_frame_finds_an_attribute_that_another_has_set(settings):
    settings.REST_CHANNELS = {"WORKER_THREADS": 1}

    class Attributes(Plain):
        def create(self, request, *args, **kwargs):
            connection.current_tenant = "acme"
            return Response()

        def list(self, request, *args, **kwargs):
            return Response(getattr(connection, "current_tenant", None))

    async def story():
        async with talking_to(routes(Attributes)) as socket:
            await socket.ask("create")
            assert (await socket.ask("list"))["data"] is None

    run(story)


@on_postgresql
def test_an_async_action_finds_nothing_that_another_has_set(policies):
    class Later(Plain):
        async def create(self, request, *args, **kwargs):
            await sync_to_async(execute)("SET app.tenant = 'acme'")
            await sync_to_async(setattr)(connection, "current_tenant", "acme")
            return Response()

        async def list(self, request, *args, **kwargs):
            return Response(await sync_to_async(self.found)())

        def found(self):
            with connection.cursor() as cursor:
                cursor.execute("SELECT current_setting('app.tenant', true)")
                return [*cursor.fetchone(), getattr(connection, "current_tenant", None)]

    async def story():
        async with talking_to(routes(Later)) as one, talking_to(routes(Later)) as other:
            assert (await one.ask("create"))["response_status"] == 200
            assert not any((await other.ask("list"))["data"])

    run(story)


@on_postgresql
def test_a_generator_leaves_nothing_in_the_thread_that_draws(policies, settings):
    settings.REST_CHANNELS = {"WORKER_THREADS": 1}

    class Drawn(Plain):
        def create(self, request, *args, **kwargs):
            execute("SET app.tenant = 'acme'")
            yield 1

        def list(self, request, *args, **kwargs):
            with connection.cursor() as cursor:
                cursor.execute("SELECT current_setting('app.tenant', true)")
                yield cursor.fetchone()[0] or None

    async def story():
        async with talking_to(routes(Drawn)) as socket:
            assert (await socket.ask("create"))["data"] == 1
            await socket.receive()
            assert (await socket.ask("list"))["data"] is None

    run(story)


# Side by side on a server


@on_postgresql
@pytest.mark.parametrize("capture", ["auto", "signals", "triggers"])
@pytest.mark.parametrize("seed", [1])
def test_django_tenants_schemas_are_never_mixed_up(capture, seed):
    command = [sys.executable, "-m", "tests.support.projects.tenants_project", capture, str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    for tenant, found in json.loads(done.stdout.splitlines()[-1]).items():
        assert found["shown"] == [tenant]
        assert found["is_equal_to_list"] == [True, True]
        assert found["count"] > 3


@pytest.mark.django_db(transaction=False)
@on_postgresql
def test_in_a_tests_transaction_subscriptions_leave_the_session_as_it_was(policies):
    class Told(BySession):
        """Settings of frames would stay, as with Django's test client: the test undoes them."""

        def finalize_response(self, request, response, *args, **kwargs):
            if not request._request.call.is_review:
                execute("RESET ROLE")
                execute("RESET app.tenant")
            return super().finalize_response(request, response, *args, **kwargs)

    Room.objects.create(pk=1, name="acme-1")
    headers = {"host": "acme.localhost"}
    with SocketClient(routes(Told), headers=headers) as socket:
        assert socket.request("subscribe", snapshot=True).data == [{"id": 1, "name": "acme-1"}]
        Room.objects.create(pk=2, name="beta-1")
        Room.objects.create(pk=3, name="acme-2")
        assert socket.event().data == {"id": 3, "name": "acme-2"}
    assert Room.objects.count() == 3
