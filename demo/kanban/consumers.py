"""The users who look at a board."""

from rest_channels.consumers import RoomConsumers
from rest_framework.generics import get_object_or_404

from chat.serializers import UserSerializer
from kanban.models import Board


class AtBoard(RoomConsumers):
    """A room is named by the id of its board, as text."""

    channel_name = "at_board"
    presence_grace = 2  # seconds; a reloading page is back sooner
    user_serializer_class = UserSerializer

    def get_room(self, name):
        return get_object_or_404(Board.objects.visible_to(self.user), pk=name)
