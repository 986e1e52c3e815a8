"""Rooms, some of them for staff only, and their messages."""

from django.conf import settings
from django.db import models
from django.utils import timezone


class RoomQuerySet(models.QuerySet):
    def visible_to(self, user):
        """Return the rooms that `user` may see."""
        return self if user.is_staff else self.filter(staff_only=False)


class Room(models.Model):
    name = models.SlugField(unique=True)
    title = models.CharField(max_length=50)
    topic = models.CharField(max_length=100, blank=True)
    staff_only = models.BooleanField(default=False)

    objects = RoomQuerySet.as_manager()

    class Meta:
        ordering = ["id"]

    def __str__(self):
        return self.title


class Message(models.Model):
    room = models.ForeignKey(Room, models.CASCADE, related_name="messages")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    text = models.CharField(max_length=500)
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["id"]

    def __str__(self):
        return self.text
