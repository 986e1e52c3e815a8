from django_filters import rest_framework as filters

from chat.models import Message, Room


class MessageFilter(filters.FilterSet):
    """
    The filter of a list of messages.

    `room=2` selects the messages of one room; the answer does not reveal whether a hidden room
    exists.
    """

    room = filters.ModelChoiceFilter(queryset=lambda request: Room.objects.visible_to(request.user))

    class Meta:
        model = Message
        fields = ["room"]
