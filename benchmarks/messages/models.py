from __future__ import annotations

from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=50)


class Message(models.Model):
    author = models.ForeignKey(Author, models.CASCADE)
    text = models.TextField()
    is_read = models.BooleanField(default=False)
    score = models.IntegerField(default=0)
    created = models.DateTimeField(auto_now_add=True)
