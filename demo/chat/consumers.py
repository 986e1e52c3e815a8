"""Presence, typing notices and asides: what happens in a room without being stored as messages."""

from rest_channels.consumers import RoomConsumers
from rest_framework.generics import get_object_or_404

from chat.models import Room
from chat.serializers import AsideSerializer, UserSerializer


class Here(RoomConsumers):
    """A room is named by its id, as text: `{"action": "join", "room": "2"}`."""

    channel_name = "here"
    history = 20
    presence_grace = 2  # seconds; a reloading page is back sooner
    user_serializer_class = UserSerializer

    def get_room(self, name):
        # A hidden room gets the same answer as a room that does not exist.
        return get_object_or_404(Room.objects.visible_to(self.user), pk=name)

    def get_message_data(self, room, data):
        aside = AsideSerializer(data=data)
        aside.is_valid(raise_exception=True)
        return aside.validated_data
