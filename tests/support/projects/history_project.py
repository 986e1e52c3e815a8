"""
A project with django-simple-history, by itself: it needs tables of its own.

    python -m tests.support.projects.history_project

Prints, as JSON, who the history says has written, by the text written.
"""

from __future__ import annotations

import json
from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="x" * 50,
    USE_TZ=True,
    ROOT_URLCONF=__name__,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=[
        *(f"django.contrib.{app}" for app in ("auth", "contenttypes", "sessions")),
        *(
            "rest_framework",
            "channels",
            "rest_channels",
            "simple_history",
            "tests.support.projects.history_app",
        ),
    ],
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    REST_CHANNELS={"FRAME_CONTEXTS": ["tests.support.projects.history_app.models.history"]},
)
django.setup()
urlpatterns: list[Any] = []


def story() -> dict[str, str | None]:
    from channels.routing import URLRouter
    from django.contrib.auth.models import User
    from rest_framework.decorators import action
    from rest_framework.response import Response
    from rest_framework.serializers import ModelSerializer

    from rest_channels.consumers import CRUDConsumers, WebsocketConsumers, consumer
    from rest_channels.test import SocketClient
    from rest_channels.viewsets import ModelConsumerViewSet
    from tests.support.projects.history_app.models import Note

    class NoteSerializer(ModelSerializer):
        class Meta:
            model = Note
            fields = ["id", "text"]

    class NoteViewSet(ModelConsumerViewSet):
        queryset = Note.objects.all()
        serializer_class = NoteSerializer

        @action(detail=False, methods=["post"])
        async def slowly(self, request: Any) -> Any:
            await Note.objects.acreate(text="async")
            return Response()

        @action(detail=False, methods=["post"])
        def many(self, request: Any) -> Any:
            for number in range(2):
                Note.objects.create(text=f"part {number}")
                yield number

    class Notes(WebsocketConsumers):
        @consumer
        def write(self, message: Any) -> None:
            Note.objects.create(text="handler")
            self.reply("written")

    ann = User.objects.create(username="ann")

    def socket_of(routes: Any, path: str = "/") -> SocketClient:
        client = SocketClient(URLRouter(routes), path)
        client.force_login(ann)
        return client

    with socket_of(NoteViewSet.as_routes("notes", "notes"), "/notes/") as socket:
        pk = socket.create(data={"text": "created"}).data["id"]
        socket.update(pk=pk, data={"text": "updated"})
        socket.request("slowly")
        socket.request("many")
    with socket_of(CRUDConsumers.as_routes(path="/crud", model=Note), "/crud") as socket:
        socket.create(data={"text": "crud"})
    with socket_of(Notes.as_routes(path="/handlers"), "/handlers") as socket:
        socket.send_text("{}")
        socket.receive()
    Note.objects.create(text="nobody")
    return {
        note.text: note.history_user and note.history_user.username for note in Note.history.all()
    }


def main() -> None:
    from django.test.utils import setup_databases, setup_test_environment

    setup_test_environment()
    setup_databases(verbosity=0, interactive=False)
    print(json.dumps(story()))


main()
