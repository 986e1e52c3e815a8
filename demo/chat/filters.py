from django_filters import rest_framework as filters

from chat.models import Message, Room


class MessageFilter(filters.FilterSet):
    """`room=2`: of one room. Asking for a room that one may not see tells nothing about it."""

    room = filters.ModelChoiceFilter(queryset=lambda request: Room.objects.visible_to(request.user))

    class Meta:
        model = Message
        fields = ["room"]
