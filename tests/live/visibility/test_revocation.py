"""Rights that have ended: nothing is shown afterwards, and the client receives a `revoke`."""

from __future__ import annotations

import functools
from importlib import import_module

import pytest
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.permissions import (
    BasePermission,
    DjangoModelPermissions,
    IsAdminUser,
    IsAuthenticated,
)

from rest_channels.protocol import CloseCode
from rest_channels.sockets.revalidation import leases
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Club, Label, Note
from tests.support.stepped_processes import running
from tests.support.subscription_stories import routes

pytestmark = pytest.mark.django_db(transaction=True)

LEASE = 5


class NoteSerializer(serializers.ModelSerializer):
    class Meta:
        model = Note
        fields = ["id", "text"]


class Notes(ModelConsumerViewSet):
    queryset = Note.objects.order_by("id")
    serializer_class = NoteSerializer
    authentication_classes = [TokenAuthentication, SessionAuthentication]
    permission_classes = [IsAuthenticated]


class StaffNotes(Notes):
    permission_classes = [IsAdminUser]


class ClubNotes(Notes):
    def get_queryset(self):
        clubs = list(self.request.user.clubs.values_list("pk", flat=True))
        return super().get_queryset().filter(club__in=clubs)


class ViewPermissions(DjangoModelPermissions):
    perms_map = {**DjangoModelPermissions.perms_map, "GET": ["%(app_label)s.view_%(model_name)s"]}


class PermittedNotes(Notes):
    permission_classes = [ViewPermissions]


class IsInClub(BasePermission):
    def has_object_permission(self, request, view, note):
        return note.club.members.filter(pk=request.user.pk).exists()


class GuardedNotes(Notes):
    permission_classes = [IsInClub]


class LabelledNotes(Notes):
    """Found by a list of another table's rows alone."""

    def get_queryset(self):
        links = Note.labels.through.objects.filter(label_id=1)
        pks = list(links.values_list("note_id", flat=True))
        return super().get_queryset().filter(pk__in=pks)


@pytest.fixture
def processes():
    with running() as shared:
        yield shared


@pytest.fixture
def process(processes):
    return processes.start()


@pytest.fixture
def ann():
    user = User.objects.create(username="ann", is_staff=True)
    Token.objects.create(user=user, key="t")
    return user


@pytest.fixture
def club(ann):
    club = Club.objects.create(name="chess")
    club.members.add(ann)
    return club


@pytest.fixture
def note(club):
    return Note.objects.create(club=club, text="seen")


WITH_TOKEN = {"authorization": "Token t"}


def with_session(user):
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return {"cookie": f"{settings.SESSION_COOKIE_NAME}={session.session_key}"}


#: One stream for all sockets of a viewset: subscribers of two have nothing in common.
serving = functools.cache(routes)


def watching(process, viewset, headers=WITH_TOKEN, **keys):
    """A socket that has subscribed, to the row of `pk` or to all."""
    socket = process.connect(serving(viewset), "/", headers)
    action = "subscribe_instance" if "pk" in keys else "subscribe"
    _, reply = socket.ask(action, request_id="s", snapshot=True, **keys)
    assert reply["response_status"] == 201, reply
    shown = reply["data"] if isinstance(reply["data"], list) else [reply["data"]]
    assert [note["text"] for note in shown] == ["seen"]
    return socket


def told(process, socket):
    process.look()
    return [(frame["action"], frame["data"]) for frame in socket.drain()]


def edit(processes, note, text="secret"):
    def write():
        note.text = text
        note.save()

    processes.write(write)


REVOKED = [("revoke", None)]


# Told at once, for the write was seen


def demote(ann):
    ann.is_staff = False
    ann.save()


def test_a_demotion_revokes(processes, process, ann, note):
    by_token = watching(process, StaffNotes)
    by_session = watching(process, StaffNotes, with_session(ann))
    processes.write(lambda: demote(ann))
    edit(processes, note)
    assert told(process, by_token) == REVOKED
    assert told(process, by_session) == REVOKED
    edit(processes, note, "more")
    assert told(process, by_token) == told(process, by_session) == []


def test_a_demotion_counts_for_who_subscribes_after_it(processes, process, ann, note):
    """The socket has read the user before: the process has long seen the write."""
    socket = process.connect(serving(StaffNotes), "/", with_session(ann))
    assert socket.ask("list")[1]["response_status"] == 200
    other = watching(process, StaffNotes)
    processes.write(lambda: demote(ann))
    assert told(process, other) == REVOKED
    watcher = watching(process, Notes)
    _, reply = socket.ask("subscribe", request_id="s", snapshot=True)
    assert (reply["response_status"], reply["data"]) == (403, None)
    assert told(process, watcher) == []


def test_who_loses_a_permission_or_a_group_is_told(processes, process, ann, note):
    permission = Permission.objects.get(codename="view_note")
    group = Group.objects.create(name="readers")
    group.permissions.add(permission)
    losses = [
        lambda: ann.user_permissions.remove(permission),
        lambda: ann.groups.remove(group),
        lambda: group.permissions.remove(permission),
        group.delete,
    ]
    for lose in losses:
        if lose == losses[0]:
            ann.user_permissions.add(permission)
        else:
            group.permissions.add(permission)
            ann.groups.add(group)
        note.text = "seen"
        note.save()
        socket = watching(process, PermittedNotes)
        processes.write(lose)
        edit(processes, note)
        assert told(process, socket) == REVOKED


def test_who_leaves_a_club_is_told_of_removals_alone(processes, process, ann, club, note):
    socket = watching(process, ClubNotes)
    row = watching(process, ClubNotes, pk=note.pk)
    guarded = watching(process, GuardedNotes, pk=note.pk)
    processes.write(lambda: club.members.remove(ann))
    edit(processes, note)
    for one in (socket, row, guarded):
        assert told(process, one) == [("delete", {"pk": note.pk})]
    edit(processes, note, "more")
    for one in (socket, row, guarded):
        assert told(process, one) == []


def test_a_row_that_moves_is_removed(processes, process, note):
    socket = watching(process, ClubNotes)
    guarded = watching(process, GuardedNotes, pk=note.pk)

    def move():
        note.club = Club.objects.create(name="other")
        note.text = "secret"
        note.save()

    processes.write(move)
    for one in (socket, guarded):
        assert told(process, one) == [("delete", {"pk": note.pk})]


def test_rows_go_with_the_table_that_links_them(processes, process, note):
    label = Label.objects.create(pk=1, name="red")
    note.labels.add(label)
    socket = watching(process, LabelledNotes)
    processes.write(label.delete)
    assert told(process, socket) == [("delete", {"pk": note.pk})]


def test_who_is_deactivated_or_deleted_is_told_nothing_more(processes, process, ann, note):
    def deactivate():
        ann.is_active = False
        ann.save()

    for lose in (deactivate, ann.delete):
        by_token = watching(process, Notes)
        processes.write(lose)
        edit(processes, note)
        is_revoked = told(process, by_token) == REVOKED
        assert is_revoked or by_token.close_code == CloseCode.CREDENTIALS_ENDED
        note.text = "seen"
        note.save()
        if lose == deactivate:
            ann.is_active = True
            ann.save()


def test_a_session_that_ends_closes_the_socket(processes, process, ann, note):
    headers = with_session(ann)
    socket = watching(process, Notes, headers)
    key = headers["cookie"].partition("=")[2]
    processes.write(lambda: import_module(settings.SESSION_ENGINE).SessionStore(key).delete())
    processes.clock.now += LEASE + 1
    edit(processes, note)
    told(process, socket)
    assert socket.close_code == CloseCode.CREDENTIALS_ENDED


def test_a_logout_closes_the_socket_before_anything_is_told(processes, process, ann, note):
    headers = with_session(ann)
    socket = watching(process, Notes, headers)
    key = headers["cookie"].partition("=")[2]
    leases.end(lambda credentials: credentials.session_key == key)
    edit(processes, note)
    assert told(process, socket) == []
    assert socket.close_code == CloseCode.CREDENTIALS_ENDED


def raw(sql):
    def write():
        with connection.cursor() as cursor:
            cursor.execute(sql)

    return write


@pytest.mark.parametrize(
    ("delete", "seconds"),
    [(lambda: Token.objects.all().delete(), 0), (raw("DELETE FROM authtoken_token"), LEASE + 0.1)],
    ids=["seen", "unseen"],
)
def test_a_token_that_is_deleted(processes, process, ann, note, delete, seconds):
    socket = watching(process, Notes)
    processes.write(delete)
    processes.clock.now += seconds
    edit(processes, note)
    assert told(process, socket) == REVOKED or socket.close_code == CloseCode.CREDENTIALS_ENDED
    edit(processes, note, "more")
    assert told(process, socket) == []


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_password_that_is_changed_ends_the_sessions_of_before(
    processes, process, ann, note, is_seen
):
    socket = watching(process, Notes, with_session(ann))
    if is_seen:
        ann.set_password("new")
        processes.write(ann.save)
    else:
        processes.write(unseen(password="changed"))
        processes.clock.now += LEASE + 0.1
    edit(processes, note)
    assert told(process, socket) in ([], REVOKED)
    assert socket.close_code == CloseCode.CREDENTIALS_ENDED


def test_a_session_deleted_by_who_knows_no_django(processes, process, ann, note):
    socket = watching(process, Notes, with_session(ann))
    processes.write(raw("DELETE FROM django_session"))
    processes.clock.now += LEASE + 0.1
    edit(processes, note)
    assert told(process, socket) in ([], REVOKED)
    assert socket.close_code == CloseCode.CREDENTIALS_ENDED


# Told within the lease, for the write was not seen


def unseen(**values):
    """A write that goes round everything."""
    return lambda: User.objects.update(**values)


@pytest.mark.parametrize("values", [{"is_staff": False}, {"is_active": False}])
def test_an_unseen_write_counts_within_the_lease(processes, process, ann, note, values):
    by_token = watching(process, StaffNotes)
    by_session = watching(process, StaffNotes, with_session(ann))
    processes.write(unseen(**values))
    processes.clock.now += LEASE + 0.1
    edit(processes, note)
    for socket in (by_token, by_session):
        is_revoked = told(process, socket) == REVOKED
        assert is_revoked or socket.close_code == CloseCode.CREDENTIALS_ENDED
    edit(processes, note, "more")
    assert told(process, by_token) == told(process, by_session) == []


def test_an_answer_is_no_older_than_what_was_read_of_the_user(processes, process, ann, note):
    """Read at first, relied on by an answer a little later: the lease counts from the reading."""
    # For the first subscriber of a database, everything is read again.
    watching(process, Notes)
    processes.clock.now += 1
    socket = process.connect(serving(StaffNotes), "/", with_session(ann))
    assert socket.ask("list")[1]["response_status"] == 200
    processes.write(unseen(is_staff=False))
    processes.clock.now += LEASE - 0.1
    assert socket.ask("subscribe", request_id="s")[1]["response_status"] == 201
    processes.clock.now += 0.2
    edit(processes, note)
    assert told(process, socket) == REVOKED


def test_who_arrives_makes_nobody_be_told_on_a_lease_that_is_over(processes, process, ann, note):
    """The arrival reads all rows: new ones reach only users who may see them."""
    ben = User.objects.create(username="ben", is_staff=True)
    Token.objects.create(user=ben, key="b")
    socket = watching(process, StaffNotes)
    processes.write(lambda: User.objects.filter(pk=ann.pk).update(is_staff=False))
    processes.write(lambda: Note.objects.all()._update([(Note._meta.get_field("text"), None, "x")]))
    processes.clock.now += LEASE + 0.1
    other = process.connect(serving(StaffNotes), "/", {"authorization": "Token b"})
    other.ask("subscribe", request_id="s", snapshot=True)
    assert told(process, socket) in ([], REVOKED)


def test_who_arrives_while_something_is_pending_makes_nobody_be_told_so_either(
    processes, process, ann, note
):
    """A subscriber would receive it together with the new one, so it is checked first."""
    ben = User.objects.create(username="ben", is_staff=True)
    Token.objects.create(user=ben, key="b")
    socket = watching(process, StaffNotes)
    processes.write(unseen(is_staff=False))
    User.objects.filter(pk=ben.pk)._update([(User._meta.get_field("is_staff"), None, True)])
    processes.clock.now += LEASE + 0.1
    other = process.connect(serving(StaffNotes), "/", {"authorization": "Token b"})
    processes.at("before the snapshot", lambda: Note.objects.filter(pk=note.pk).update(text="x"))
    _, reply = other.ask("subscribe", request_id="s", snapshot=True)
    assert reply["data"] == [{"id": note.pk, "text": "x"}]
    assert told(process, socket) == REVOKED


def test_a_club_that_is_left_unseen_is_left_within_the_lease(processes, process, ann, club, note):
    socket = watching(process, ClubNotes)
    guarded = watching(process, GuardedNotes, pk=note.pk)
    processes.write(lambda: Club.members.through.objects.all()._raw_delete("default"))
    processes.clock.now += LEASE + 0.1
    edit(processes, note)
    for one in (socket, guarded):
        assert told(process, one) == [("delete", {"pk": note.pk})]


# Whose fault it is


class BreakableNotes(Notes):
    def get_queryset(self):
        if "broken" in self.request.query_params:
            self.queryset = Unreadable(Note)
        return super().get_queryset()


class Unreadable(type(Note.objects.all())):
    """Rows that cannot be read, which turns out when they are."""

    def _fetch_all(self):
        raise ValueError("no rows")


def test_rows_that_cannot_be_read_end_the_subscription_to_them_alone(
    processes, process, note, caplog
):
    socket = process.connect(routes(BreakableNotes), "/", WITH_TOKEN)
    assert socket.ask("subscribe", request_id="good")[1]["response_status"] == 201
    _, reply = socket.ask("subscribe", request_id="bad", query={"broken": "1"}, snapshot=True)
    assert reply["response_status"] == 500
    assert "no rows" in caplog.text
    edit(processes, note, "new")
    assert told(process, socket) == [("update", {"id": note.pk, "text": "new"})]


def test_who_joins_behind_a_long_log_is_answered(processes, process, club, note, monkeypatch):
    monkeypatch.setattr("rest_channels.live.log.store.PAGE_SIZE", 3)
    monkeypatch.setattr("rest_channels.live.log.store.since.__kwdefaults__", {"limit": 3})
    socket = watching(process, Notes)
    for number in range(10):
        edit(processes, note, f"text {number}")
    _, reply = socket.ask("subscribe", request_id="other", snapshot=True)
    assert (reply["response_status"], reply["data"][0]["text"]) == (201, "text 9")
