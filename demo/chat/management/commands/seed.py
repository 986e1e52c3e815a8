"""`manage.py seed`: add two users, three rooms and some messages. Safe to run again."""

from datetime import timedelta

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils import timezone

from chat.models import Message, Room

PASSWORD = "demo"

USERS = {"ann": {"is_staff": True}, "bob": {"is_staff": False}}

ROOMS = {
    "lobby": {"title": "Lobby", "topic": "Say hello, ask anything"},
    "chess": {"title": "Chess", "topic": "One game, a move at a time"},
    "staff": {"title": "Staff room", "topic": "Not for everybody to hear", "staff_only": True},
}

LOBBY = [
    ("ann", "Good morning! The coffee machine works again."),
    ("bob", "Finally. What was wrong with it?"),
    ("ann", "There was tea in it."),
    ("bob", "I have never liked coffee."),
    ("ann", "So it was you."),
    ("bob", "No comment. Has anybody seen the ladder?"),
    ("ann", "Behind the door of the archive. Do not stand on the top step."),
    ("bob", "A fine trick to play on us."),
    ("ann", "You may edit or delete what you wrote yourself. I may do it to anybody's."),
    ("bob", "Then kindly delete the one about the tea."),
]

STAFF = [
    ("ann", "Only staff see this room. Bob's list of rooms ends before it."),
    ("ann", "Nor does he get it by asking for its number: to him there is no such room."),
]

# Anderssen against Kieseritzky, London 1851: long enough for several pages.
GAME = """
e4 e5 f4 exf4 Bc4 Qh4+ Kf1 b5 Bxb5 Nf6 Nf3 Qh6 d3 Nh5 Nh4 Qg5 Nf5 c6 g4 Nf6 Rg1 cxb5 h4 Qg6 h5 Qg5
Qf3 Ng8 Bxf4 Qf6 Nc3 Bc5 Nd5 Qxb2 Bd6 Bxg1 e5 Qxa1+ Ke2 Na6 Nxg7+ Kd8 Qf6+ Nxf6 Be7#
"""


class Command(BaseCommand):
    help = "Fill the demo's database. Existing rows stay unchanged."

    @transaction.atomic
    def handle(self, *, verbosity, **options):
        for username, is_what in USERS.items():
            user, is_new = User.objects.get_or_create(username=username, defaults=is_what)
            if is_new:
                user.set_password(PASSWORD)
                user.save()
        for name, fields in ROOMS.items():
            Room.objects.get_or_create(name=name, defaults=fields)
        fill("chess", chess_moves(), every=timedelta(minutes=47))
        fill("lobby", LOBBY, every=timedelta(minutes=3))
        fill("staff", STAFF, every=timedelta(minutes=1))
        if verbosity:
            self.stdout.write(
                f"{User.objects.count()} users, {Room.objects.count()} rooms, "
                f"{Message.objects.count()} messages."
            )


def chess_moves():
    """Yield each player with a numbered move."""
    for ply, move in enumerate(GAME.split()):
        number = ply // 2 + 1
        yield ("ann", f"{number}. {move}") if ply % 2 == 0 else ("bob", f"{number}… {move}")
    yield "bob", "Well played. Your queen, both rooks and a bishop, and I still lost!"


def fill(name, lines, *, every):
    """Add `lines` to the room if it is empty, one `every` so often, the last of them just now."""
    room = Room.objects.get(name=name)
    if room.messages.exists():
        return
    users = User.objects.in_bulk(field_name="username")
    lines = list(lines)
    begin = timezone.now() - every * len(lines)
    Message.objects.bulk_create(
        Message(room=room, author=users[author], text=text, created=begin + every * i)
        for i, (author, text) in enumerate(lines, start=1)
    )
