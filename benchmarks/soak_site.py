"""The project of `benchmarks.site` for `benchmarks.soak`: filters, orders, and a watch."""

from __future__ import annotations

from benchmarks.site import MessageViewSet, Pages, messages
from benchmarks.soak_clients import USERS

# isort: split
from django.contrib.auth.models import User
from django.db.models import Count, Max
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.decorators import action
from rest_framework.filters import OrderingFilter
from rest_framework.response import Response

from rest_channels.routers import DefaultRouter


class NamedUser(BaseAuthentication):
    """`Authorization: Named ann` is enough, because it costs nothing."""

    def authenticate(self, request):
        scheme, _, name = get_authorization_header(request).decode().partition(" ")
        return (User.objects.get(username=name), None) if scheme == "Named" else None


class FewMessages(Pages):
    """No pages: a list is compared with what a subscriber holds."""

    default_limit = None


class SoakedViewSet(MessageViewSet):
    queryset = messages()
    authentication_classes = [NamedUser]
    pagination_class = FewMessages
    filter_backends = [DjangoFilterBackend, OrderingFilter]
    filterset_fields = ["author"]
    ordering_fields = ["id", "score"]

    @action(detail=False)
    def totals(self, request):
        """Return the number of an author's messages, and the last one's key."""
        return Response(
            self.filter_queryset(self.get_queryset())
            .order_by()
            .aggregate(count=Count("pk"), last=Max("pk"))
        )


def make_users():
    User.objects.bulk_create(User(username=f"soak-{number}") for number in range(USERS))


def application():
    router = DefaultRouter()
    router.register("messages", SoakedViewSet)
    return router.as_asgi()
