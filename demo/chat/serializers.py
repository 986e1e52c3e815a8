"""The serializers of the API, the same for HTTP and websockets."""

from django.contrib.auth.models import User
from rest_framework import serializers

from chat.models import Message, Room


class RoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["id", "name", "title", "topic", "staff_only"]


class UserSerializer(serializers.ModelSerializer):
    class Meta:
        model = User
        fields = ["id", "username", "is_staff"]


class VisibleRoomField(serializers.PrimaryKeyRelatedField):
    """A room by its primary key; hidden rooms do not exist for the user."""

    def get_queryset(self):
        return Room.objects.visible_to(self.context["request"].user)


class MessageSerializer(serializers.ModelSerializer):
    room = VisibleRoomField()
    author = serializers.SlugRelatedField("username", read_only=True)

    class Meta:
        model = Message
        fields = ["id", "room", "author", "text", "created"]

    def validate_room(self, room):
        if self.instance is not None and room != self.instance.room:
            raise serializers.ValidationError("A message stays in its room.", code="immutable")
        return room


class AsideSerializer(serializers.Serializer):
    """An aside in a room. It has no row: nobody edits, searches or deletes it."""

    text = serializers.CharField(max_length=80)
