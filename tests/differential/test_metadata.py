"""OPTIONS over HTTP, the action `metadata` over a socket."""

from __future__ import annotations

import pytest
from rest_framework import metadata, permissions, serializers, viewsets

from tests.models import Message, Room


class MessageSerializer(serializers.ModelSerializer):
    class Meta:
        model = Message
        fields = ["id", "room", "text", "created"]
        extra_kwargs = {"text": {"help_text": "The words.", "label": "Words"}}


class MessageViewSet(viewsets.ModelViewSet):
    """Messages of all rooms."""

    queryset = Message.objects.all()
    serializer_class = MessageSerializer


@pytest.fixture
def hello(db):
    return Message.objects.create(room=Room.objects.create(name="lobby"), text="hello")


def test_of_a_collection(site):
    site.register("messages", MessageViewSet)
    answer = site.same("OPTIONS /api/messages/", "metadata")
    assert answer.data["name"] == "Message List"
    assert answer.data["description"] == "Messages of all rooms."
    assert answer.data["actions"]["POST"]["text"]["label"] == "Words"


def test_of_a_row(site, hello):
    site.register("messages", MessageViewSet)
    answer = site.same(f"OPTIONS /api/messages/{hello.pk}/", "metadata", pk=hello.pk)
    assert answer.data["name"] == "Message Instance"
    assert answer.data["actions"].keys() == {"PUT"}


def test_of_a_row_that_is_not_there(site):
    site.register("messages", MessageViewSet)
    assert "actions" not in site.same("OPTIONS /api/messages/9/", "metadata", pk=9).data


def test_shows_what_the_user_may_do(site, hello, django_user_model):
    class GuardedViewSet(MessageViewSet):
        permission_classes = [permissions.IsAuthenticatedOrReadOnly]

    site.register("messages", GuardedViewSet, "message")
    assert "actions" not in site.same("OPTIONS /api/messages/", "metadata").data
    site.force_authenticate(django_user_model())
    assert "actions" in site.same("OPTIONS /api/messages/", "metadata").data


def test_to_those_who_may_ask(site):
    class GuardedViewSet(MessageViewSet):
        permission_classes = [permissions.IsAuthenticated]

    site.register("messages", GuardedViewSet)
    assert site.same("OPTIONS /api/messages/", "metadata").status_code == 403


def test_of_a_plain_viewset(site):
    class PlainViewSet(viewsets.ViewSet):
        def retrieve(self, request, pk=None): ...

        def get_view_name(self):
            return f"Plain {self.kwargs['pk']}"

    site.register("plain", PlainViewSet, "plain")
    assert site.same("OPTIONS /api/plain/1/", "metadata", pk=1).data["name"] == "Plain 1"


def test_a_class_of_a_projects_own(site):
    class Short(metadata.BaseMetadata):
        def determine_metadata(self, request, view):
            return {"view": view.get_view_name(), "method": request.method, "action": view.action}

    class ShortViewSet(MessageViewSet):
        metadata_class = Short

    site.register("messages", ShortViewSet)
    assert site.same("OPTIONS /api/messages/", "metadata").data == {
        "view": "Short List",
        "method": "OPTIONS",
        "action": "metadata",
    }


def test_none(site):
    class SilentViewSet(MessageViewSet):
        metadata_class = None

    site.register("messages", SilentViewSet)
    answer = site.same("OPTIONS /api/messages/", "metadata")
    assert (answer.status_code, answer.headers) == (405, {"Allow": "GET, POST, HEAD, OPTIONS"})
