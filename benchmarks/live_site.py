"""
The project of `benchmarks.site`, live: each subject sends saved rows to sockets in its way.

    BENCH_SUBJECT   rest_channels, dcrf, plain, or bare, which encodes once and calls each send
    BENCH_TOPIC     collection or row: the subscription of the sockets

Subscribers are at `/messages/`. At `/write/` is a socket that saves, in the same way for all
subjects: `{"pks": [...], "number": n, "together": false}` saves these rows one after the other,
with n, n + 1, ... at the beginning of their texts, each in a transaction of its own or all in one,
and answers once they are committed.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import nullcontext
from functools import partial

from benchmarks.site import SUBJECT, MessageSerializer, MessageViewSet, messages, usual_stack

# isort: split
from asgiref.sync import async_to_sync
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer
from django.db import transaction
from django.db.backends.signals import connection_created
from django.db.models.signals import post_save
from django_filters.rest_framework import DjangoFilterBackend
from djangochannelsrestframework.decorators import action as dcrf_action
from djangochannelsrestframework.generics import GenericAsyncAPIConsumer
from djangochannelsrestframework.observer import model_observer
from djangochannelsrestframework.observer.generics import ObserverModelInstanceMixin

import rest_channels
from benchmarks.messages.models import Message
from rest_channels.routers import DefaultRouter

FILLING = "word " * 20


def observing_consumer():
    """Return a consumer; its observers act on every save from their definition on."""

    class ObservingConsumer(GenericAsyncAPIConsumer):
        queryset = messages()
        serializer_class = MessageSerializer

        @model_observer(Message, serializer_class=MessageSerializer)
        async def told(self, message, action=None, subscribing_request_ids=(), **kwargs):
            for request_id in subscribing_request_ids:
                await self.reply(action=action, data=message, request_id=request_id)

        @dcrf_action()
        async def subscribe(self, request_id, **kwargs):
            await self.told.subscribe(request_id=request_id)
            return None, 201

    return ObservingConsumer


def instance_consumer():
    class InstanceConsumer(ObserverModelInstanceMixin, GenericAsyncAPIConsumer):
        queryset = messages()
        serializer_class = MessageSerializer

    return InstanceConsumer


class ToldConsumer(AsyncWebsocketConsumer):
    """A group as in Channels' tutorial; its messages were encoded once."""

    groups = ["everybody"]

    async def receive(self, text_data=None, bytes_data=None):
        await self.send(text_data='{"response_status": 201}')

    async def row_saved(self, event):
        await self.send(text_data=event["text"])


async def tell_group(text):
    message = {"type": "row.saved", "text": text}
    await get_channel_layer().group_send("everybody", message)


#: SQL statements, and messages to groups of the layer.
counts = {"queries": 0, "layer_messages": 0}


def count_queries(connection, **kwargs):
    # A new connection has the wrappers of the one before.
    if count_query not in connection.execute_wrappers:
        connection.execute_wrappers.append(count_query)


def count_query(execute, *args):
    counts["queries"] += 1
    return execute(*args)


def count_layer_messages():
    layer = type(get_channel_layer())
    group_send = layer.group_send

    async def counting(self, *args):
        counts["layer_messages"] += 1
        await group_send(self, *args)

    layer.group_send = counting


sends: dict = {}


async def bare(scope, receive, send):
    """Serve the minimum."""
    await receive()
    await send({"type": "websocket.accept"})
    try:
        while (await receive())["type"] == "websocket.receive":
            sends[id(send)] = send
            await send({"type": "websocket.send", "text": '{"response_status": 201}'})
    finally:
        sends.pop(id(send), None)


async def tell_all(text):
    for send in list(sends.values()):
        await send({"type": "websocket.send", "text": text})


def on_save(tell):
    """Call `tell` with the text of each saved row, once it is committed."""

    def receiver(instance, **kwargs):
        text = json.dumps(MessageSerializer(instance).data)
        transaction.on_commit(partial(async_to_sync(tell), text))

    post_save.connect(receiver, sender=Message, weak=False)


@database_sync_to_async
def save_all(pks: list[int], number: int, *, together: bool) -> list[float]:
    """Save the rows; return when each was committed, before subscribers are notified."""
    committed: list[float] = []
    with transaction.atomic() if together else nullcontext():
        for text_number, pk in enumerate(pks, number):
            with transaction.atomic():
                transaction.on_commit(lambda: committed.append(time.perf_counter()))
                row = messages().get(pk=pk)
                row.text = f"#{text_number}# {FILLING}"
                row.save()
    return committed


async def writing(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        asked = json.loads(message["text"])
        if "stats" in asked:
            answer = {**rest_channels.stats(), **counts}
        else:
            saved = await save_all(asked["pks"], asked["number"], together=asked["together"])
            answer = {"number": asked["number"], "saved": saved}
        await send({"type": "websocket.send", "text": json.dumps(answer)})


class FilteredViewSet(MessageViewSet):
    filter_backends = [DjangoFilterBackend]
    filterset_fields = {"id": ["exact", "lte"]}


def ours():
    router = DefaultRouter()
    router.register("messages", FilteredViewSet)
    return router.as_asgi()


def plain():
    on_save(tell_group)
    return usual_stack(ToldConsumer)


def bare_application():
    on_save(tell_all)
    return bare


def dcrf():
    of_rows = os.environ.get("BENCH_TOPIC") == "row"
    return usual_stack(instance_consumer() if of_rows else observing_consumer())


MAKERS = {"rest_channels": ours, "dcrf": dcrf, "plain": plain, "bare": bare_application}


def application():
    connection_created.connect(count_queries)
    count_layer_messages()
    told = MAKERS[SUBJECT]()

    async def either(scope, receive, send):
        await (writing if scope["path"] == "/write/" else told)(scope, receive, send)

    return either
