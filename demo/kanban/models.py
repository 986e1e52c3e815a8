"""Boards of columns of cards, each board for its members."""

from itertools import pairwise

from django.conf import settings
from django.db import models

# The distance of new neighbours. One between two others gets the mean of their positions.
STEP = 1024.0


def spread(rows):
    """
    Renumber `rows` if two of them have come too close for a third between them.

    Halving a distance gives about 50 places before floats are equal.
    """
    rows = list(rows)
    if all(after.position - before.position > 1e-6 for before, after in pairwise(rows)):
        return
    for number, row in enumerate(rows, start=1):
        row.position = number * STEP
    type(rows[0]).objects.bulk_update(rows, ["position"])


class BoardQuerySet(models.QuerySet):
    def visible_to(self, user):
        """Return the boards that `user` is a member of."""
        return self.filter(members=user)


class Board(models.Model):
    title = models.CharField(max_length=50)
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, related_name="boards")

    objects = BoardQuerySet.as_manager()

    class Meta:
        ordering = ["id"]

    def __str__(self):
        return self.title


class Column(models.Model):
    board = models.ForeignKey(Board, models.CASCADE, related_name="columns")
    title = models.CharField(max_length=50)
    position = models.FloatField()

    class Meta:
        ordering = ["position", "id"]

    def __str__(self):
        return self.title


class Card(models.Model):
    column = models.ForeignKey(Column, models.CASCADE, related_name="cards")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    title = models.CharField(max_length=200)
    position = models.FloatField()

    class Meta:
        ordering = ["position", "id"]

    def __str__(self):
        return self.title
