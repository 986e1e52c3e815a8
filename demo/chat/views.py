"""
The API, written once, and the page that uses it.

`multichat/urls.py` serves the API over HTTP, `multichat/routing.py` over websockets.
"""

from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.models import User
from django.views.generic import TemplateView
from rest_channels.viewsets import ModelConsumerViewSet
from rest_framework.decorators import action
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.viewsets import ReadOnlyModelViewSet

from chat.filters import MessageFilter
from chat.models import Message, Room
from chat.pagination import NewestFirst
from chat.permissions import IsAuthorOrStaff
from chat.serializers import MessageSerializer, RoomSerializer, UserSerializer


class MessageViewSet(ModelConsumerViewSet):
    queryset = Message.objects.select_related("author", "room").order_by("-id")
    serializer_class = MessageSerializer
    permission_classes = [IsAuthenticated, IsAuthorOrStaff]
    pagination_class = NewestFirst
    filterset_class = MessageFilter
    search_fields = ["text", "author__username"]

    def get_queryset(self):
        visible = Room.objects.visible_to(self.request.user)
        return super().get_queryset().filter(room__in=visible)

    def perform_create(self, serializer):
        serializer.save(author=self.request.user)


# DRF's viewsets work over websockets unchanged.


class RoomViewSet(ReadOnlyModelViewSet):
    queryset = Room.objects.all()
    serializer_class = RoomSerializer

    def get_queryset(self):
        return super().get_queryset().visible_to(self.request.user)


class UserViewSet(ReadOnlyModelViewSet):
    queryset = User.objects.filter(is_active=True).order_by("username")
    serializer_class = UserSerializer

    @action(detail=False)
    def me(self, request):
        """Return the current user."""
        return Response(self.get_serializer(request.user).data)


class Page(LoginRequiredMixin, TemplateView):
    """An empty page, which the socket fills."""

    template_name = "chat/page.html"
