"""A server that does not take what it is given: a limit of its own on lengths or on close codes."""

from __future__ import annotations

import pytest
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.response import Response

from rest_channels.routers import DefaultRouter
from rest_channels.test import SocketClient, SocketClosed


class TextViewSet(viewsets.ViewSet):
    @action(detail=False, methods=["post"])
    def text(self, request):
        return Response("x" * request.data)


router = DefaultRouter()
router.register("texts", TextViewSet, "text")


def picky(application):
    """`application` on a server that takes 1,000 characters and the close code 1000."""

    async def served(scope, receive, send):
        async def picky_send(message):
            if len(message.get("text", "")) > 1000 or message.get("code", 1000) != 1000:
                raise ValueError("That is not to my taste.")
            await send(message)

        await application(scope, receive, picky_send)

    return served


@pytest.fixture
def client(db):
    with SocketClient(picky(router.as_asgi())) as client:
        yield client


def test_a_reply_that_the_server_does_not_take_is_answered_500(client, caplog):
    reply = client.request("text", "texts", data=2000)
    assert (reply.status_code, reply.codes) == (500, ["error"])
    (record,) = caplog.records
    assert reply.errors == [f"The reply could not be sent (error {record.args[1]})."]
    assert record.exc_info
    assert client.request("text", "texts", data=2).data == "xx"


def test_a_close_code_that_the_server_does_not_take_becomes_1000(client, caplog):
    client.send_text("x" * 100_000)
    with pytest.raises(SocketClosed) as closed:
        client.receive()
    assert closed.value.code == 1000
    assert caplog.records[0].exc_info
