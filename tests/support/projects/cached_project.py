"""
A project whose ORM is cached, by itself: these packages patch all of Django.

    python -m tests.support.projects.cached_project cachalot

Prints, as JSON, what a subscriber was shown and what plain lists show then.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import django
from django.conf import settings

PACKAGE = sys.argv[1]
PREFIX = f"rest_channels_{os.getpid()}:"
DIRECTORY = tempfile.TemporaryDirectory()

POSTGRESQL = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": os.environ.get("PGDATABASE", "postgres"),
    "USER": os.environ.get("PGUSER", "postgres"),
    "HOST": os.environ.get("PGHOST", "127.0.0.1"),
    "TEST": {"NAME": f"rest_channels_cached_{os.getpid()}"},
}
SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "TEST": {"NAME": str(Path(DIRECTORY.name) / "test.sqlite3")},
}
APPS = ["auth", "contenttypes", "sessions"]

settings.configure(
    SECRET_KEY="x" * 50,
    USE_TZ=True,
    ROOT_URLCONF=__name__,
    DATABASES={
        "default": POSTGRESQL if os.environ.get("TEST_DATABASE") == "postgresql" else SQLITE
    },
    INSTALLED_APPS=[
        *(f"django.contrib.{app}" for app in APPS),
        "rest_framework",
        "channels",
        "rest_channels",
        PACKAGE,
    ],
    CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    CACHEOPS_REDIS="redis://127.0.0.1:6379/0",
    CACHEOPS_PREFIX=lambda query: PREFIX,
    CACHEOPS={"auth.*": {"ops": "all", "timeout": 600}},
)
django.setup()
urlpatterns: list[Any] = []


def story() -> dict[str, Any]:
    from django.contrib.auth.models import Group, User
    from django.db import connection
    from rest_framework.serializers import ModelSerializer
    from rest_framework.test import APIRequestFactory

    from rest_channels.routers import DefaultRouter
    from rest_channels.test import SocketClient
    from rest_channels.viewsets import ModelConsumerViewSet

    class UserSerializer(ModelSerializer):
        class Meta:
            model = User
            fields = ["username", "groups"]

        def to_representation(self, user: Any) -> Any:
            names = [group.name for group in user.groups.all()]
            # Fetched by the serializer itself.
            count = Group.objects.count()
            return {"username": user.username, "groups": names, "count": count}

    class UserViewSet(ModelConsumerViewSet):
        queryset = User.objects.prefetch_related("groups").order_by("id")
        serializer_class = UserSerializer

    def write_unseen(name: str) -> None:
        """As another process commits meanwhile, of which the cache does not know yet."""
        connection.ensure_connection()
        # The driver's own, of which no package hears.
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(f"UPDATE auth_user SET username = '{name}'")
            cursor.execute(f"UPDATE auth_group SET name = '{name}'")

    def plain_list() -> Any:
        view = UserViewSet.as_view({"get": "list"})
        return view(APIRequestFactory().get("/")).data

    ann = User.objects.create(username="first")
    ann.groups.add(Group.objects.create(name="first"))
    router = DefaultRouter()
    router.register("users", UserViewSet)
    with SocketClient(router.as_asgi(), "/users/") as socket:
        shown = socket.request("subscribe", snapshot=True).data
        write_unseen("second")
        listed = plain_list()
        # Now the cache has it; another write that it does not know of yet.
        write_unseen("third")
        again = plain_list()
        socket.request("unsubscribe")
        subscribed = socket.request("subscribe", snapshot=True).data
    return {"shown": shown, "listed": listed, "cached": again, "subscribed": subscribed}


def main() -> None:
    from django.test.utils import setup_databases, setup_test_environment, teardown_databases

    setup_test_environment()
    databases = setup_databases(verbosity=0, interactive=False)
    try:
        seen = story()
    finally:
        teardown_databases(databases, verbosity=0)
        forget()
    print(json.dumps(seen))


def forget() -> None:
    if PACKAGE == "cacheops":
        from cacheops.redis import redis_client

        for key in redis_client.scan_iter(f"*{PREFIX}*"):
            redis_client.delete(key)


main()
