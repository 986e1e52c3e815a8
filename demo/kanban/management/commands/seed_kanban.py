"""`manage.py seed_kanban`: add two boards for the users of `seed`. Safe to run again."""

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand
from django.db import transaction

from kanban.models import STEP, Board, Card, Column

# By board: its members, then its columns with their cards and authors.
BOARDS = {
    "Product launch": (
        ["ann", "bob"],
        {
            "Ideas": [
                ("bob", "A video without a voice-over"),
                ("ann", "Ask the first hundred users for a sentence"),
            ],
            "To do": [
                ("ann", "Write the press release"),
                ("bob", "Check the landing page at 320 pixels"),
                ("ann", "Agree on a date with the printers"),
            ],
            "In progress": [
                ("bob", "Rehearse the demo, twice, on the slow laptop"),
                ("ann", "Prices for teams"),
            ],
            "Done": [("ann", "Choose a name"), ("bob", "Choose another name")],
        },
    ),
    "Hiring": (
        ["ann"],
        {
            "Applied": [("ann", "A backend developer who reads changelogs")],
            "Interview": [("ann", "The designer with the paper prototypes")],
            "Offer": [],
        },
    ),
}


class Command(BaseCommand):
    help = "Fill the demo's boards. Existing boards stay unchanged."

    @transaction.atomic
    def handle(self, *, verbosity, **options):
        users = User.objects.in_bulk(field_name="username")
        for title, (members, columns) in BOARDS.items():
            board, is_new = Board.objects.get_or_create(title=title)
            if not is_new:
                continue
            board.members.set(users[name] for name in members)
            for place, (heading, cards) in enumerate(columns.items(), start=1):
                column = Column.objects.create(board=board, title=heading, position=place * STEP)
                Card.objects.bulk_create(
                    Card(column=column, author=users[name], title=text, position=number * STEP)
                    for number, (name, text) in enumerate(cards, start=1)
                )
        if verbosity:
            self.stdout.write(f"{Board.objects.count()} boards, {Card.objects.count()} cards.")
