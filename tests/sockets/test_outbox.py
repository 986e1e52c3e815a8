"""Messages that wait for a client that does not read: in order, bounded, and closed by name."""

from __future__ import annotations

import asyncio
import json

from rest_channels.protocol import Reply
from rest_channels.sockets.outbox import Outbox, StreamWriter


class Client:
    """The sending half of a server, for a client that reads when the test says so."""

    def __init__(self, *, reads=True) -> None:
        self.sent = []
        self._reading = asyncio.Event()
        if reads:
            self.read()

    def read(self) -> None:
        self._reading.set()

    async def send(self, message) -> None:
        self.sent.append(message.get("text", message.get("code")))
        await self._reading.wait()


async def idle(turns=20):
    """Let everything on the loop happen that can."""
    for _ in range(turns):
        await asyncio.sleep(0)


def test_text_is_sent_in_the_order_it_was_put():
    async def story():
        client = Client()
        outbox = Outbox(client.send, 10)
        for number in range(20):
            await outbox.put(str(number))
        await idle()
        assert client.sent == [str(number) for number in range(20)]

    asyncio.run(story())


def test_a_producer_waits_until_the_client_has_read_enough():
    async def story():
        client = Client(reads=False)
        outbox = Outbox(client.send, 10)
        await outbox.put("12345")
        await outbox.put("67890")
        waiting = asyncio.create_task(outbox.put("x"))
        await idle()
        assert not waiting.done()
        assert client.sent == ["12345"]
        client.read()
        await waiting
        await idle()
        assert client.sent == ["12345", "67890", "x"]

    asyncio.run(story())


def test_what_was_read_makes_room():
    async def story():
        reads, sent = asyncio.Semaphore(0), []

        async def send(message):
            await reads.acquire()
            sent.append(message["text"])

        outbox = Outbox(send, 10)
        outbox.post("first")
        for text in ("two..", "three", "four."):
            outbox.post(text)
            reads.release()
            await idle()
        assert sent == ["first", "two..", "three"] and not outbox.is_closed
        outbox.discard()

    asyncio.run(story())


def test_bytes_are_counted_not_characters():
    async def story():
        client = Client(reads=False)
        outbox = Outbox(client.send, 10)
        await outbox.put("x")
        waiting = asyncio.create_task(outbox.put("ééééé"))
        await idle()
        assert not waiting.done()
        waiting.cancel()

    asyncio.run(story())


def test_what_is_longer_than_the_bound_goes_alone():
    async def story():
        client = Client()
        outbox = Outbox(client.send, 10)
        await outbox.put("a")
        await asyncio.wait_for(outbox.put("b" * 100), 10)
        await asyncio.wait_for(outbox.put("c"), 10)
        await idle()
        assert client.sent == ["a", "b" * 100, "c"]

    asyncio.run(story())


def test_many_producers_never_exceed_the_bound():
    async def story():
        client = Client(reads=False)
        outbox = Outbox(client.send, 100)
        producers = [asyncio.create_task(outbox.put(f"{n:010}")) for n in range(50)]
        await idle()
        assert sum(producer.done() for producer in producers) == 10
        client.read()
        await asyncio.gather(*producers)
        await idle()
        assert sorted(client.sent) == [f"{n:010}" for n in range(50)]

    asyncio.run(story())


def test_what_cannot_wait_closes_the_socket_of_a_client_that_does_not_read():
    async def story():
        client = Client(reads=False)
        outbox = Outbox(client.send, 10)
        outbox.post("12345")
        await idle()
        outbox.post("67890")
        assert not outbox.is_closed
        outbox.post("x")
        assert outbox.is_closed
        await idle()
        assert client.sent == ["12345"]
        client.read()
        await idle()
        assert client.sent == ["12345", 4408]

    asyncio.run(story())


def test_what_cannot_wait_keeps_its_place_behind_what_waits():
    async def story():
        client = Client()
        outbox = Outbox(client.send, 10)
        await outbox.put("a")
        outbox.post("b")
        await outbox.put("c")
        await idle()
        assert client.sent == ["a", "b", "c"]

    asyncio.run(story())


def test_closing_comes_after_what_was_put_and_before_nothing():
    async def story():
        client = Client()
        outbox = Outbox(client.send, 10)
        outbox.post("a")
        outbox.close(1009)
        outbox.close(4408)
        outbox.post("b")
        await outbox.put("c")
        await idle()
        assert client.sent == ["a", 1009]

    asyncio.run(story())


def test_a_server_may_close_with_a_timeout(monkeypatch):
    """As older ones of uvicorn do: it needs a task, and would end whosever that is."""
    monkeypatch.setattr(Client, "__module__", "uvicorn.protocols.websockets.websockets_impl")
    tasks = []

    class Patient(Client):
        async def send(self, message):
            if message["type"] == "websocket.close":
                tasks.append(asyncio.current_task())
                async with asyncio.timeout(10):
                    await asyncio.sleep(0)
            await super().send(message)

    async def story():
        client = Patient()
        outbox = Outbox(client.send, 10)
        loop = asyncio.get_running_loop()
        # Outside any task, as the loop posts messages of a worker thread.
        loop.call_soon(outbox.post, "text")
        loop.call_soon(outbox.close, 4401)
        await idle()
        assert client.sent == ["text", 4401]
        other = Patient()
        Outbox(other.send, 10).close(4408)
        await idle()
        assert other.sent == [4408]
        assert None not in tasks and asyncio.current_task() not in tasks

    monkeypatch.setattr(Patient, "__module__", Client.__module__)
    asyncio.run(story())


def test_a_producer_that_waits_is_let_go_when_the_socket_closes():
    async def story(end):
        client = Client(reads=False)
        outbox = Outbox(client.send, 10)
        await outbox.put("1234567890")
        waiting = asyncio.create_task(outbox.put("x"))
        await idle()
        end(outbox)
        await asyncio.wait_for(waiting, 10)
        client.read()
        await idle()
        assert "x" not in client.sent

    asyncio.run(story(lambda outbox: outbox.close(1009)))
    asyncio.run(story(lambda outbox: outbox.discard()))


def test_what_is_discarded_is_not_sent():
    async def story():
        client = Client(reads=False)
        outbox = Outbox(client.send, 100)
        for number in range(5):
            outbox.post(str(number))
        await idle()
        outbox.discard()
        client.read()
        await idle()
        assert client.sent == ["0"]

    asyncio.run(story())


def test_a_server_that_says_the_client_is_gone():
    async def story():
        async def send(message):
            raise ConnectionResetError

        outbox = Outbox(send, 10)
        await outbox.put("1234567890")
        await asyncio.wait_for(outbox.put("1234567890"), 10)
        await asyncio.wait_for(outbox.put("x"), 10)
        await idle()
        assert outbox.is_closed

    asyncio.run(story())


class Choosy(Client):
    """A server that refuses some messages, as daphne does."""

    def __init__(self, *, refuses) -> None:
        super().__init__()
        self._refuses = refuses

    async def send(self, message) -> None:
        if self._refuses(message):
            raise RuntimeError("refused")
        await super().send(message)


def test_a_reply_that_the_server_does_not_send_becomes_a_500(caplog):
    async def story():
        client = Choosy(refuses=lambda message: len(message.get("text", "")) > 1_000)
        wire = StreamWriter(Outbox(client.send, 10_000), "rooms")
        await wire.put(Reply(200, data=f'"{2_000 * "x"}"', action="list", request_id=1))
        await wire.put(Reply(200, action="list", request_id=2))
        await idle()
        failure, other = map(json.loads, client.sent)
        (record,) = caplog.records
        assert failure["stream"] == "rooms"
        assert failure["payload"]["errors"] == [f"Server error (error {record.error_id})."]
        assert (failure["payload"]["response_status"], failure["payload"]["action"]) == (
            500,
            "list",
        )
        assert failure["payload"]["request_id"] == 1
        assert (other["payload"]["response_status"], other["payload"]["request_id"]) == (200, 2)

    asyncio.run(story())


def test_an_item_that_the_server_does_not_send_closes_the_socket(caplog):
    async def story():
        client = Choosy(refuses=lambda message: "206" in message.get("text", ""))
        outbox = Outbox(client.send, 10_000)
        await StreamWriter(outbox).put(Reply(206))
        await StreamWriter(outbox).put(Reply(200))
        await idle()
        assert (client.sent, outbox.is_closed) == ([1011], True)
        assert len(caplog.records) == 1

    asyncio.run(story())


def test_a_close_code_that_the_server_does_not_take_becomes_a_private_one(caplog):
    async def story():
        client = Choosy(refuses=lambda message: message.get("code", 4000) < 3000)
        outbox = Outbox(client.send, 10_000)
        outbox.close(1009)
        await idle()
        assert client.sent == [4009]
        assert caplog.records == []

    asyncio.run(story())


def test_nobody_waits_for_a_server_that_sends_nothing_any_more(caplog):
    async def story():
        outbox = Outbox(Choosy(refuses=lambda message: True).send, 10)
        for _ in range(5):
            await asyncio.wait_for(outbox.put("1234567890"), 10)
            await idle()
        assert outbox.is_closed

    asyncio.run(story())
    assert len(caplog.records) == 1


def test_a_wire_puts_replies_in_the_envelope_of_its_stream():
    async def story():
        client = Client()
        outbox = Outbox(client.send, 1_000)
        await StreamWriter(outbox, "rooms").put(Reply(200, request_id=1))
        StreamWriter(outbox, None).post(Reply(400))
        StreamWriter(outbox).post(Reply(204, request_id=2))
        await StreamWriter(outbox, "rooms").put_payload('{"a": 1}')
        await idle()
        one, none, bare, payload = map(json.loads, client.sent)
        assert (one["stream"], one["payload"]["request_id"]) == ("rooms", 1)
        assert (none["stream"], none["payload"]["response_status"]) == (None, 400)
        assert bare["request_id"] == 2
        assert payload == {"stream": "rooms", "payload": {"a": 1}}

    asyncio.run(story())


def test_who_waits_for_room_is_called_once_and_sends_before_others_are():
    async def story():
        reads, sent = asyncio.Semaphore(0), []

        async def send(message):
            await reads.acquire()
            sent.append(message["text"])

        outbox = Outbox(send, 20)
        outbox.post("x" * 11)
        called = []
        outbox.when_room(lambda: called.append("first") or outbox.post("y" * 11))
        outbox.when_room(lambda: called.append("second"))
        waiting = asyncio.create_task(outbox.room())
        await idle()
        assert not (outbox.has_room or called or waiting.done())
        reads.release()
        await idle()
        assert called == ["first"]
        reads.release()
        await idle()
        assert called == ["first", "second"] and waiting.done() and len(sent) == 2

    asyncio.run(story())


def test_nobody_is_called_when_the_socket_is_closed():
    async def story():
        client = Client(reads=False)
        outbox = Outbox(client.send, 20)
        outbox.post("x" * 20)
        called = []
        outbox.when_room(lambda: called.append(1))
        waiting = asyncio.create_task(outbox.room())
        await idle()
        outbox.discard()
        client.read()
        await idle()
        assert called == [] and waiting.done()

    asyncio.run(story())
