"""Rooms for stories: whoever comes says who they are by the path."""

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
