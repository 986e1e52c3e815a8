"""
Worlds of tenants: state outside of the view decides who sees what, of a thread, of a connection
object, and on PostgreSQL of the session, by policies and by schemas.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar

from django.db import connection
from rest_framework.serializers import SerializerMethodField

from tests.models import Club, Note
from tests.support.random_programs.note_world import (
    NoteRow,
    Notes,
    NoteViewSet,
    World,
    forget,
    read,
)
from tests.support.random_programs.random_writes import NoteWriter, write_notes
from tests.support.random_programs.row_worlds import TextSerializer, texts
from tests.support.random_programs.world_kind import IS_POSTGRESQL, USERS, Step, Stream

# Roles belong to all databases of a server.
ROLE = f"rc_worlds_{os.getpid()}"
SCHEMA = "upper_floor"


def execute(sql: str, params: Any = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


class TenantViewSet(NoteViewSet):
    """Each request enters a tenant before rows are read."""

    queryset = Note.objects.order_by("id")
    serializer_class = TextSerializer
    filter_backends = []

    def initial(self, request, *args, **kwargs):
        super().initial(request, *args, **kwargs)
        self.enter(request.user)

    def enter(self, user):
        raise NotImplementedError


# In Python

here = threading.local()
reader: ContextVar[str] = ContextVar("reader", default="")


class HereSerializer(TextSerializer):
    """Says who is here, as the thread knows it when a row is shown."""

    reader = SerializerMethodField()

    class Meta(TextSerializer.Meta):
        fields = ["id", "text", "reader"]

    def get_reader(self, note):
        return getattr(here, "name", "")


class ThreadViewSet(TenantViewSet):
    """The same queryset for all who may look."""

    serializer_class = HereSerializer
    queryset = Note.objects.filter(club__is_staff_only=False).order_by("id")

    def enter(self, user):
        here.name = user.username


class AroundViewSet(ThreadViewSet):
    """The state ends with `dispatch`."""

    def dispatch(self, request, *args, **kwargs):
        try:
            return super().dispatch(request, *args, **kwargs)
        finally:
            here.__dict__.pop("name", None)


class AttributeViewSet(ThreadViewSet):
    class serializer_class(HereSerializer):
        def get_reader(self, note):
            return getattr(connection, "reader", "")

    def enter(self, user):
        connection.reader = user.username


class ContextViewSet(ThreadViewSet):
    class serializer_class(HereSerializer):
        def get_reader(self, note):
            return reader.get()

    def enter(self, user):
        reader.set(user.username)


class ManagerViewSet(TenantViewSet):
    """A queryset made of what the thread knows, and of nothing of the request."""

    def get_queryset(self):
        return Note.objects.filter(club__in=here.clubs).order_by("id")

    def enter(self, user):
        here.clubs = list(user.clubs.order_by("pk").values_list("pk", flat=True))


class LastingViewSet(TenantViewSet):
    """An effect that no rollback undoes is refused."""

    def enter(self, user):
        execute("LISTEN notes" if IS_POSTGRESQL else "PRAGMA query_only = 0")


# In the session of the database


class PolicyViewSet(TenantViewSet):
    """A policy lets the role see notes of the clubs that a setting lists."""

    def enter(self, user):
        clubs = user.clubs.order_by("pk").values_list("pk", flat=True)
        listed = ",".join(map(str, clubs))
        execute(f"SET ROLE {ROLE}")
        execute("SELECT set_config('app.clubs', %s, false)", [listed])


class PolicyAroundViewSet(PolicyViewSet):
    """The same; the state ends with `dispatch`."""

    def dispatch(self, request, *args, **kwargs):
        try:
            return super().dispatch(request, *args, **kwargs)
        finally:
            execute("RESET ROLE")
            execute("RESET app.clubs")


class PolicyByTableViewSet(TenantViewSet):
    """The policy itself asks who is a member, which no statement shows."""

    live_tables = [Club.members.through]

    def enter(self, user):
        connection.ensure_connection()
        with connection.connection.cursor() as raw:
            raw.execute(f"SET ROLE {ROLE}")
            raw.execute(f"SET app.reader = '{user.username}'")


class FunctionViewSet(TenantViewSet):
    """The name of the function does not say what it does."""

    live_tables = [Club.members.through]

    def enter(self, user):
        execute("SELECT enter_club(%s)", [user.username])


class LocalViewSet(TenantViewSet):
    """Without ATOMIC_REQUESTS it has ended before rows are read: refused."""

    def enter(self, user):
        execute("SELECT set_config('app.reader', %s, true)", [user.username])


class SchemaViewSet(TenantViewSet):
    """The staff's notes are in another schema."""

    def enter(self, user):
        if user.is_staff:
            execute(f"SET search_path = {SCHEMA}, public")


class SchemaTenant(SchemaViewSet):
    """As django-tenants does it, which remembers on the connection object where it is."""

    def enter(self, user):
        connection.schema_name = SCHEMA if user.is_staff else "public"
        super().enter(user)


_POLICIES = [
    f"CREATE ROLE {ROLE}",
    f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}",
    f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {ROLE}",
    "ALTER TABLE tests_note ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY listed ON tests_note USING (club_id::text = "
    "ANY(string_to_array(current_setting('app.clubs', true), ',')))",
    "CREATE POLICY members ON tests_note USING (EXISTS (SELECT 1 FROM tests_club_members m "
    "JOIN auth_user u ON u.id = m.user_id WHERE m.club_id = tests_note.club_id "
    "AND u.username = current_setting('app.reader', true)))",
    "CREATE FUNCTION enter_club(name text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN "
    f"PERFORM set_config('role', '{ROLE}', false); "
    "PERFORM set_config('app.reader', name, false); END $$",
    f"CREATE SCHEMA {SCHEMA}",
    f"CREATE TABLE {SCHEMA}.tests_note (LIKE public.tests_note INCLUDING ALL)",
]
_NO_POLICIES = [
    f"DROP SCHEMA {SCHEMA} CASCADE",
    "DROP FUNCTION enter_club",
    "DROP POLICY members ON tests_note",
    "DROP POLICY listed ON tests_note",
    "ALTER TABLE tests_note DISABLE ROW LEVEL SECURITY",
    f"DROP OWNED BY {ROLE}",
    f"DROP ROLE {ROLE}",
]


@contextmanager
def upstairs() -> Iterator[None]:
    """In the other schema."""
    execute(f"SET search_path = {SCHEMA}, public")
    try:
        yield
    finally:
        execute("RESET search_path")


class TenantWriter(NoteWriter):
    """Writes to another schema, too."""

    def above(self, write: Step) -> None:
        with upstairs():
            self.perform([write])


def greeted(world: World, user: str) -> dict[int, Any]:
    public = [note for note in world.notes.values() if not world.clubs[note.club][1]]
    return {note.pk: {"id": note.pk, "text": note.text, "reader": user} for note in public}


def nothing(world: World, user: str) -> dict[int, Any]:
    return {}


def of_members(world: World, user: str) -> dict[int, Any]:
    return texts(world.of_members(user))


def of_floor(world: World, user: str) -> dict[int, Any]:
    return texts((world.others if user in world.staff else world.notes).values())


class TenantNotes(Notes):
    """Tenants of a thread, a context or a connection object."""

    name = "tenants"
    streams: ClassVar = {
        "thread": Stream(ThreadViewSet, greeted),
        "around": Stream(AroundViewSet, greeted),
        "attribute": Stream(AttributeViewSet, greeted),
        "context": Stream(ContextViewSet, greeted),
        "manager": Stream(ManagerViewSet, of_members),
        "lasting": Stream(LastingViewSet, nothing, is_refused=True),
    }


class PolicyNotes(Notes):
    """Tenants by policy and by schema, on PostgreSQL."""

    name = "tenants of PostgreSQL"
    writer = TenantWriter
    streams: ClassVar = {
        "policy": Stream(PolicyViewSet, of_members),
        "policyaround": Stream(PolicyAroundViewSet, of_members),
        "policytable": Stream(PolicyByTableViewSet, of_members),
        "function": Stream(FunctionViewSet, of_members),
        "schema": Stream(SchemaViewSet, of_floor),
        "tenant": Stream(SchemaTenant, of_floor),
        "local": Stream(LocalViewSet, nothing, is_refused=True),
    }

    def __init__(self) -> None:
        self._has_triggers = False

    @contextmanager
    def prepared(self, capture: str) -> Iterator[None]:
        self._has_triggers = capture == "triggers"
        for statement in _POLICIES:
            execute(statement)
        try:
            yield
        finally:
            for statement in _NO_POLICIES:
                execute(statement)

    def read(self) -> World:
        world = read()
        with upstairs():
            rows = Note.objects.order_by("pk").values_list("pk", "club_id", "text", "is_pinned")
            world.others.update({row[0]: NoteRow(*row, ()) for row in rows})
        return world

    def forget(self) -> None:
        with upstairs():
            Note._base_manager.all()._raw_delete("default")
        forget()

    def topic(self, rng: random.Random) -> Step:
        stream, *rest = super().topic(rng)
        # Triggers are on tables of the default schema alone.
        return "policy" if self._has_triggers and stream in ("schema", "tenant") else stream, *rest

    def start(self, rng: random.Random) -> list[Step]:
        above = [("above", ("create", n, False)) for n in range(2)]
        return [*super().start(rng), *above, ("promote", rng.choice(USERS))]

    def write(self, rng: random.Random) -> Step:
        number, club = rng.randrange(10), rng.randrange(10)
        if rng.random() < 0.3:
            writes = [
                ("create", club, True),
                ("edit", number),
                ("move", number, club),
                ("delete", number),
                ("update_many", club),
                ("create_many", club),
            ]
            return ("above", rng.choice(writes))
        return write_notes(rng)
