"""An application whose streams have the shapes that are hard to type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import django_filters
from channels.routing import URLRouter
from django.urls import path
from djangochannelsrestframework.generics import GenericAsyncAPIConsumer
from djangochannelsrestframework.mixins import ListModelMixin
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.pagination import PageNumberPagination
from rest_framework.response import Response

from rest_channels.consumers import RoomConsumers, WebsocketConsumers, consumer
from rest_channels.routers import DefaultRouter
from tests.models import Message, Room, Tag
from tests.support.odd_serializers import PET, GroupSerializer, OddSerializer


class Described(viewsets.GenericViewSet):
    """A base, whose docstring is not that of its viewsets."""

    schema = AutoSchema()


class OddViewSet(mixins.CreateModelMixin, mixins.UpdateModelMixin, Described):
    """Rows that are written, */ and never read."""

    queryset = Room.objects.all()
    serializer_class = OddSerializer


class NameSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["name"]
        extra_kwargs = {"name": {"help_text": "The name in URLs."}}


class RoomSerializer(serializers.ModelSerializer):
    size = serializers.IntegerField(read_only=True, allow_null=True)

    class Meta:
        model = Room
        fields = ["name", "is_staff_only", "size"]


class Ids(django_filters.BaseInFilter, django_filters.NumberFilter):
    """Numbers separated by commas."""


class RoomFilter(django_filters.FilterSet):
    id__in = Ids(field_name="id", help_text="Any of these rooms.")
    name = django_filters.MultipleChoiceFilter(choices=[("a", "A"), ("b", "B")])
    since = django_filters.IsoDateTimeFilter(field_name="messages__created")

    class Meta:
        model = Room
        fields = ["is_staff_only"]


class TenRows(PageNumberPagination):
    page_size = 10


class RoomViewSet(viewsets.ReadOnlyModelViewSet, Described):
    """Rooms, named by a word in the URL. Lists show less."""

    queryset = Room.objects.all()
    serializer_class = RoomSerializer
    lookup_field = "name"
    filterset_class = RoomFilter
    pagination_class = TenRows

    def get_serializer_class(self) -> type[serializers.Serializer]:
        return {"list": NameSerializer, "lock": GroupSerializer}.get(self.action, RoomSerializer)

    @action(detail=True, methods=["post", "delete"])
    def lock(self, request: Any, name: str) -> Response:
        """Lock or unlock a room."""
        raise NotImplementedError

    @action(detail=False, pagination_class=None, filterset_class=None)
    def sizes(self, request: Any) -> Iterator[Any]:
        """Yield each room with its size."""
        yield {}

    @action(detail=False, url_path="of-state")
    def list_of_state(self, request: Any) -> Response:
        raise NotImplementedError


class MessageSerializer(serializers.ModelSerializer):
    class Meta:
        model = Message
        fields = ["id", "room", "text", "created"]


class MessageViewSet(mixins.RetrieveModelMixin, mixins.UpdateModelMixin, Described):
    queryset = Message.objects.all()
    serializer_class = MessageSerializer
    http_method_names = ["get", "patch", "post", "options"]


class Digits(serializers.CharField):
    """The field of later versions of REST framework, as far as this project needs it."""

    def __init__(self, coerce_to_string: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class TagSerializer(serializers.ModelSerializer):
    likes = getattr(serializers, "BigIntegerField", Digits)(coerce_to_string=True, read_only=True)

    class Meta:
        model = Tag
        fields = ["id", "name", "likes"]


_TABLE = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
_YEAR = OpenApiParameter("year", OpenApiTypes.INT, required=True, description="The year of birth.")


@extend_schema_view(
    list=extend_schema(description="All tags."),
    pets=extend_schema(parameters=[_YEAR], responses=PET, deprecated=True),
    adopt=extend_schema(request=PET, responses={204: None}),
    create=extend_schema(responses={201: GroupSerializer}),
    update=extend_schema(responses={204: None}),
    table=extend_schema(responses={200: _TABLE}),
)
class TagViewSet(viewsets.ModelViewSet):
    schema = AutoSchema()
    queryset = Tag.objects.all()
    serializer_class = TagSerializer
    filter_backends: list[type] = []

    @action(detail=True)
    def pets(self, request: Any, pk: str) -> Response:
        """Return the pet with the tag."""
        raise NotImplementedError

    @action(detail=True, methods=["post"])
    def adopt(self, request: Any, pk: str) -> Response:
        raise NotImplementedError

    @action(detail=False)
    def table(self, request: Any) -> Response:
        raise NotImplementedError


class SaidSerializer(serializers.Serializer):
    text = serializers.CharField()
    words = serializers.IntegerField(read_only=True)


class Chat(RoomConsumers):
    """A chat."""

    user_serializer_class = TagSerializer
    message_serializer_class = SaidSerializer


class Loud(RoomConsumers):
    def get_user_data(self) -> Any:
        return "anonymous"

    def get_message_data(self, room: Any, data: Any) -> Any:
        return {"text": data}


class Plain(RoomConsumers):
    pass


class Greetings(WebsocketConsumers):
    @consumer(action="greet")
    def greet(self, message: Any) -> None:
        """Return the greeting."""

    @consumer(kind="hello")
    def hello(self, message: Any) -> None:
        """Return nothing that a client could call by a name."""


class Hosted(ListModelMixin, GenericAsyncAPIConsumer):
    queryset = Room.objects.all()
    serializer_class = RoomSerializer


class OtherTagViewSet(TagViewSet):
    pass


router = DefaultRouter()
router.register("odd", OddViewSet, "odd")
router.register("rooms", RoomViewSet)
router.register(r"rooms/(?P<room_pk>\d+)/messages", MessageViewSet)
router.register("state", TagViewSet)
router.register("the-chat", Chat)
router.register("loud", Loud)
router.register("plain", Plain)
router.register("greetings", Greetings)
router.register("hosted", Hosted)

other = DefaultRouter()
other.register("tags", OtherTagViewSet)

application = URLRouter([path("v2/", URLRouter(other.urls)), path("", URLRouter(router.urls))])
