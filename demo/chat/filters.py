from django_filters import rest_framework as filters

from chat.models import Message, Room


class MessageFilter(filters.FilterSet):
    """
    `room=2`: of one room. Asking for a room that one may not see tells nothing about it.
    `first=40`: no older ones, so that a page may subscribe to just what it shows.
    """

    room = filters.ModelChoiceFilter(queryset=lambda request: Room.objects.visible_to(request.user))
    first = filters.NumberFilter("id", "gte")

    class Meta:
        model = Message
        fields = ["room"]
