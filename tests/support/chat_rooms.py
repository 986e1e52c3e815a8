"""Rooms for stories: the path names the user."""

from __future__ import annotations

from rest_channels.consumers import RoomConsumers


class Chat(RoomConsumers):
    authentication_classes = []
    path = r"/(?P<user>\w+)"
    presence_grace = 0

    def get_user_key(self):
        return self.kwargs["user"]

    def get_user_data(self):
        return {"name": self.kwargs["user"]}
