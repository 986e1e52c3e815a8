"""
The log of changes: what was written, in an order that every process agrees on. Keys only, never
content: which row of which model, and what happened to it.

And what was said last in rooms that have a history.
"""

from __future__ import annotations

from typing import Final

from django.db import models

#: As long as any `app_label.ModelName` that Django makes a permission for.
_MAX_LABEL_CHARS: Final = 201


class AbstractChange(models.Model):
    """
    What happened to one row. `key` is its primary key as text; None where it is not known which
    rows of `model` changed, or how many. `kind` is one of `rest_channels.live.log.Kind`. `fields`
    names those that were saved, comma separated, where the writer said `update_fields`.
    """

    model = models.CharField(max_length=_MAX_LABEL_CHARS)
    key = models.TextField(null=True)
    kind = models.CharField(max_length=6)
    fields = models.TextField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        abstract = True


class PendingChange(AbstractChange):
    """
    A change as its writer left it, in the writer's own transaction.

    Its `id` says nothing about the order of commits; `transaction` groups what was committed
    together.
    """

    id = models.BigAutoField(primary_key=True)
    transaction = models.BigIntegerField(null=True)

    class Meta:
        default_permissions = ()


class Change(AbstractChange):
    """
    A change in the log. `position` has no holes; `mark`, random, tells this entry from another
    at the same position of another history of the database, one that a backup was restored of.
    """

    position = models.BigIntegerField(primary_key=True)
    mark = models.BigIntegerField()

    class Meta:
        default_permissions = ()
        indexes = (models.Index(fields=["created_at"], name="rest_channels_change_age"),)


class LogHead(models.Model):
    """The end of the log. Its one row is locked by whoever appends."""

    id = models.PositiveSmallIntegerField(primary_key=True)
    position = models.BigIntegerField()
    mark = models.BigIntegerField()

    class Meta:
        default_permissions = ()


class RoomHead(models.Model):
    """
    The last message of a room, which was the `number`th. Locked by whoever sends.

    `room` is a hash of its name: as long as it may be, and the same for no other in any collation.
    """

    room = models.CharField(primary_key=True, max_length=64)
    number = models.BigIntegerField()
    mark = models.BigIntegerField()

    class Meta:
        default_permissions = ()


class RoomMessage(models.Model):
    """
    A message of a room. `number` has no holes; `mark`, random, tells it from one of the same number
    that a restored backup has undone. `data` is JSON.
    """

    id = models.BigAutoField(primary_key=True)
    room = models.CharField(max_length=64)
    number = models.BigIntegerField()
    mark = models.BigIntegerField()
    data = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        constraints = (
            models.UniqueConstraint(
                fields=["room", "number"], name="rest_channels_room_message_number"
            ),
        )
