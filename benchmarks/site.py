"""
The project under load: one model, which each subject serves over a websocket in its way.

    BENCH_SUBJECT   rest_channels, dcrf, plain or echo; group or plain_group, whose sockets all
                    receive the messages of one of them
    BENCH_DATABASE  sqlite or postgresql
    BENCH_SQLITE    the path of SQLite's file, and
    BENCH_POSTGRESQL  the name of PostgreSQL's database: others than these for two runs at a time
    BENCH_SETTINGS  REST_CHANNELS as JSON
    BENCH_CONN_MAX_AGE  60 unless given; Django's default is 0
    BENCH_FIELDS    fields of the serializer beside its own seven
    BENCH_REDIS     a prefix of keys: the channel layer is Redis; else it is in memory
    BENCH_REDIS_PORT  of the server of that layer
    BENCH_LAYER     core, or pubsub: which of the layers in channels_redis

uvicorn serves `application`; every subject answers the same frames at `/messages/`.
"""

from __future__ import annotations

import json
import os
import time

import django
from django.conf import settings

SUBJECT = os.environ.get("BENCH_SUBJECT", "rest_channels")

if os.environ.get("BENCH_DATABASE", "sqlite") == "postgresql":
    DATABASE = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("BENCH_POSTGRESQL", "rest_channels_bench"),
        "USER": os.environ.get("PGUSER", "postgres"),
        "HOST": os.environ.get("PGHOST", "127.0.0.1"),
        "PORT": os.environ.get("PGPORT", "5432"),
        "CONN_MAX_AGE": int(os.environ.get("BENCH_CONN_MAX_AGE", 60)),
    }
else:
    DATABASE = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("BENCH_SQLITE", "/tmp/rest_channels_bench.sqlite3"),
        "CONN_MAX_AGE": int(os.environ.get("BENCH_CONN_MAX_AGE", 60)),
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }

REDIS_PORT = os.environ.get("BENCH_REDIS_PORT", "6379")
if REDIS := os.environ.get("BENCH_REDIS"):
    LAYER = {
        "BACKEND": {
            "core": "channels_redis.core.RedisChannelLayer",
            "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
        }[os.environ.get("BENCH_LAYER", "core")],
        "CONFIG": {
            # Longer than the five seconds that the layer and redis-py 8 wait.
            "hosts": [{"address": f"redis://127.0.0.1:{REDIS_PORT}", "socket_timeout": 10}],
            "prefix": REDIS,
        },
    }
else:
    LAYER = {"BACKEND": "channels.layers.InMemoryChannelLayer"}

settings.configure(
    SECRET_KEY="not a secret: the benchmark's own",
    ALLOWED_HOSTS=["127.0.0.1"],
    USE_TZ=True,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "rest_framework",
        "channels",
        "rest_channels",
        "benchmarks.messages",
    ],
    DATABASES={"default": DATABASE},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    MIGRATION_MODULES=dict.fromkeys(("auth", "contenttypes", "sessions")),
    CHANNEL_LAYERS={"default": LAYER},
    REST_CHANNELS={
        "FRAME_RATE": 1e9,
        # The writes of peers are not slowed down.
        "CAPTURE": "auto" if SUBJECT == "rest_channels" else None,
        **json.loads(os.environ.get("BENCH_SETTINGS", "{}")),
    },
    LOGGING_CONFIG=None,
)
django.setup()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.db import database_sync_to_async  # noqa: E402
from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.db.backends.signals import connection_created  # noqa: E402
from django.urls import path  # noqa: E402
from djangochannelsrestframework import mixins as dcrf  # noqa: E402
from djangochannelsrestframework.decorators import action as dcrf_action  # noqa: E402
from djangochannelsrestframework.generics import GenericAsyncAPIConsumer  # noqa: E402
from djangochannelsrestframework.pagination import WebsocketLimitOffsetPagination  # noqa: E402
from rest_framework import serializers  # noqa: E402
from rest_framework.decorators import action  # noqa: E402
from rest_framework.pagination import LimitOffsetPagination  # noqa: E402
from rest_framework.response import Response  # noqa: E402

from benchmarks.messages.models import Author, Message  # noqa: E402
from rest_channels.consumers import GroupConsumers  # noqa: E402
from rest_channels.routers import DefaultRouter  # noqa: E402
from rest_channels.viewsets import ModelConsumerViewSet  # noqa: E402

ROWS = 1000


MORE = [f"more_{number}" for number in range(int(os.environ.get("BENCH_FIELDS", "0")))]


class NarrowSerializer(serializers.ModelSerializer):
    author_name = serializers.CharField(source="author.name", read_only=True)

    class Meta:
        model = Message
        fields = ["id", "author", "author_name", "text", "is_read", "score", "created"]


class WideSerializer(NarrowSerializer):
    locals().update({name: serializers.IntegerField(source="score") for name in MORE})

    class Meta(NarrowSerializer.Meta):
        fields = [*NarrowSerializer.Meta.fields, *MORE]


MessageSerializer = WideSerializer if MORE else NarrowSerializer


def messages():
    return Message.objects.select_related("author").order_by("id")


def sleep_in_the_database(seconds: float) -> None:
    with connection.cursor() as cursor:
        function = "pg_sleep" if connection.vendor == "postgresql" else "sleep"
        cursor.execute(f"SELECT {function}(%s)", [seconds])


def teach_sqlite_to_sleep(connection, **kwargs) -> None:
    if connection.vendor == "sqlite":
        connection.connection.create_function("sleep", 1, time.sleep)


connection_created.connect(teach_sqlite_to_sleep)


class Pages(LimitOffsetPagination):
    default_limit = 25


class MessageViewSet(ModelConsumerViewSet):
    queryset = messages()
    serializer_class = MessageSerializer
    pagination_class = Pages

    @action(detail=False)
    def slow(self, request):
        sleep_in_the_database(float(request.query_params["seconds"]))
        return Response({"slept": True})

    @action(detail=False)
    def idle(self, request):
        return Response({"idle": True})


class DCRFPages(WebsocketLimitOffsetPagination):
    default_limit = 25


class MessageConsumer(
    dcrf.PaginatedModelListMixin,
    dcrf.RetrieveModelMixin,
    dcrf.CreateModelMixin,
    dcrf.UpdateModelMixin,
    GenericAsyncAPIConsumer,
):
    queryset = messages()
    serializer_class = MessageSerializer
    pagination_class = DCRFPages

    @dcrf_action()
    def slow(self, query, **kwargs):
        sleep_in_the_database(float(query["seconds"]))
        return {"slept": True}, 200

    @dcrf_action()
    def idle(self, **kwargs):
        return {"idle": True}, 200


class PlainConsumer(AsyncJsonWebsocketConsumer):
    """A consumer as written by hand on Channels: one hop a message, without checks."""

    async def receive_json(self, content, **kwargs):
        data, status = await self.answer(content)
        await self.send_json(
            {
                "errors": [],
                "data": data,
                "action": content["action"],
                "response_status": status,
                "request_id": content["request_id"],
            }
        )

    @database_sync_to_async
    def answer(self, content):
        match content["action"]:
            case "retrieve":
                return MessageSerializer(messages().get(pk=content["pk"])).data, 200
            case "list":
                page = messages()[:25]
                results = MessageSerializer(page, many=True).data
                return {"count": messages().count(), "results": results}, 200
            case "create":
                serializer = MessageSerializer(data=content["data"])
            case "update":
                row = messages().get(pk=content["pk"])
                serializer = MessageSerializer(row, data=content["data"])
            case "slow":
                sleep_in_the_database(float(content["query"]["seconds"]))
                return {"slept": True}, 200
            case "idle":
                return {"idle": True}, 200
        serializer.is_valid(raise_exception=True)
        serializer.save()
        return serializer.data, 201 if content["action"] == "create" else 200

    @classmethod
    async def encode_json(cls, content):
        return json.dumps(content, default=str)


class PlainGroupConsumer(AsyncJsonWebsocketConsumer):
    """A group as in Channels' tutorial."""

    groups = ["everybody"]

    async def receive_json(self, content, **kwargs):
        message = {"type": "group.message", "content": content}
        await self.channel_layer.group_send("everybody", message)

    async def group_message(self, event):
        await self.send_json(event["content"])


async def echo(scope, receive, send):
    """Serve the minimum: the cost of uvicorn and ASGI."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


def usual_stack(consumer):
    return usual_stack_of([path("messages/", consumer.as_asgi())])


def usual_stack_of(routes):
    return AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(routes)))


def ours():
    router = DefaultRouter()
    router.register("messages", MessageViewSet)
    return router.as_asgi()


MAKERS = {
    "rest_channels": ours,
    "dcrf": lambda: usual_stack(MessageConsumer),
    "plain": lambda: usual_stack(PlainConsumer),
    "echo": lambda: echo,
    "group": lambda: usual_stack_of(
        GroupConsumers.as_routes(path="/messages/", group_name="everybody")
    ),
    "plain_group": lambda: usual_stack(PlainGroupConsumer),
}


def application():
    return ProtocolTypeRouter({"websocket": MAKERS[SUBJECT]()})


def fill() -> None:
    """Drop the tables and create them with their rows."""
    call_command("migrate", run_syncdb=True, verbosity=0)
    Message.objects.all().delete()
    Author.objects.all().delete()
    authors = Author.objects.bulk_create(Author(pk=n, name=f"author {n}") for n in range(1, 21))
    Message.objects.bulk_create(
        Message(pk=n, author=authors[n % 20], text=f"message {n} " + "word " * 20, score=n % 7)
        for n in range(1, ROWS + 1)
    )
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT setval(pg_get_serial_sequence('messages_message', 'id'), %s)", [ROWS]
            )
            cursor.execute("ANALYZE")
