"""
The log of changes, in an order that all processes agree on, the history of rooms, stored replies.

The log holds keys, never content: which row of which model changed, and how.
"""

from __future__ import annotations

from typing import Final

from django.db import models

#: As long as any `app_label.ModelName` that Django creates a permission for.
_MAX_LABEL_CHARS: Final = 201


class AbstractChange(models.Model):
    """
    A change of one row.

    `key` is the row's primary key as text; None if the changed rows of `model`, or their number,
    are unknown. `kind` is one of `rest_channels.live.log.store.Kind`. `fields` names the saved
    fields, separated by commas, if the writer passed `update_fields`.
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
    A change that its writer inserted, in the writer's own transaction.

    Its `id` does not tell the order of commits. `transaction` groups changes that were committed
    together.
    """

    id = models.BigAutoField(primary_key=True)
    transaction = models.BigIntegerField(null=True)

    class Meta:
        default_permissions = ()


class Change(AbstractChange):
    """
    A change in the log.

    `position` has no holes. `mark` is random: it distinguishes this change from another at the same
    position, written after the database was restored from a backup.
    """

    position = models.BigIntegerField(primary_key=True)
    mark = models.BigIntegerField()

    class Meta:
        default_permissions = ()
        indexes = (models.Index(fields=["created_at"], name="rest_channels_change_age"),)


class LogHead(models.Model):
    """The end of the log. A process locks its one row to append."""

    id = models.PositiveSmallIntegerField(primary_key=True)
    position = models.BigIntegerField()
    mark = models.BigIntegerField()

    class Meta:
        default_permissions = ()


class RoomHead(models.Model):
    """
    The head of a room's history: the number of its last message. A sender locks it.

    `room` is a hash of the room's name: of a fixed length, and unique in any collation.
    """

    room = models.CharField(primary_key=True, max_length=64)
    number = models.BigIntegerField()
    mark = models.BigIntegerField()

    class Meta:
        default_permissions = ()


class RoomMessage(models.Model):
    """
    A message of a room.

    `number` has no holes. `mark` is random: it distinguishes the message from another of the same
    number that a restored backup has undone. `data` is JSON.
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


class StoredReply(models.Model):
    """
    The reply to a frame with an idempotency key, committed together with what its action wrote.

    `key` is a hash of the user, the stream and the client's key, `owner` one of the user, `request`
    one of what the frame asked for. `data` is JSON text as rendered; `headers` is a JSON object.
    `status` is 0 until the action has ended, which no other transaction sees.
    """

    key = models.CharField(primary_key=True, max_length=64)
    owner = models.CharField(max_length=64)
    request = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField()
    data = models.TextField()
    headers = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        indexes = (
            models.Index(fields=["owner", "created_at"], name="rest_channels_reply_owner"),
            models.Index(fields=["created_at"], name="rest_channels_reply_age"),
        )
