from __future__ import annotations

import os
import uuid

from django.conf import settings
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models

from rest_channels.live.capture.managers import LiveManager

# As long as a message may be; MariaDB's columns are no longer.
_MAX_NAME_CHARS = 500 if os.environ.get("TEST_DATABASE") == "mariadb" else 100_000


class Room(models.Model):
    name = models.SlugField(max_length=_MAX_NAME_CHARS, unique=True)
    is_staff_only = models.BooleanField(default=False)


class Message(models.Model):
    room = models.ForeignKey(Room, models.CASCADE, related_name="messages")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, null=True)
    text = models.CharField(max_length=200)
    created = models.DateTimeField(auto_now_add=True)


class Tag(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=50)


class Document(models.Model):
    room = models.ForeignKey(Room, models.PROTECT, null=True)
    file = models.FileField(upload_to="documents")
    price = models.DecimalField(max_digits=8, decimal_places=2)


class Sensor(models.Model):
    """For observers of djangochannelsrestframework, which once made act on every save."""

    name = models.CharField(max_length=50)


class Shelf(models.Model):
    """A place for items; rows that refer to it lose the reference when it goes."""

    name = models.CharField(max_length=50)


class Book(models.Model):
    title = models.CharField(max_length=50)
    version = models.IntegerField(default=0)
    shelf = models.ForeignKey(Shelf, models.SET_NULL, null=True, related_name="books")
    # Nothing leads from a shelf to the books that it once held.
    former_shelf = models.ForeignKey(Shelf, models.SET_NULL, null=True, related_name="+")
    tags = models.ManyToManyField(Tag, related_name="books")


class Novel(Book):
    """Two tables."""

    plot = models.TextField()


class Classic(Book):
    class Meta:
        proxy = True


class Item(models.Model):
    """Written to in bulk."""

    name = models.CharField(max_length=50, unique=True)
    version = models.IntegerField(default=0)
    shelf = models.ForeignKey(Shelf, models.CASCADE, null=True, related_name="items")

    objects = LiveManager()


class Toy(Item):
    age = models.IntegerField(default=3)

    objects = LiveManager()


class Seat(models.Model):
    """Its key is two columns, which the log cannot hold."""

    pk = models.CompositePrimaryKey("row", "number")
    row = models.CharField(max_length=1)
    number = models.IntegerField()
    is_taken = models.BooleanField(default=False)


class Club(models.Model):
    """Its members see its notes; those for staff show to staff alone."""

    name = models.CharField(max_length=50)
    is_staff_only = models.BooleanField(default=False)
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, related_name="clubs")

    objects = LiveManager()


class Label(models.Model):
    name = models.CharField(max_length=50)


class Note(models.Model):
    club = models.ForeignKey(Club, models.CASCADE, related_name="notes")
    text = models.CharField(max_length=200)
    is_pinned = models.BooleanField(default=False)
    labels = models.ManyToManyField(Label, related_name="notes")

    objects = LiveManager()


class Pin(models.Model):
    """Refers to a row of any model."""

    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveIntegerField()
    target = GenericForeignKey()


class Ban(models.Model):
    """For a permission that asks the database."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)


class Parcel(models.Model):
    """Found by values whose `repr` does not tell them apart."""

    acl = models.JSONField(default=dict)
    seal = models.BinaryField(default=bytes)
    text = models.CharField(max_length=200)
