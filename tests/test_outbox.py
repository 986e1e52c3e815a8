"""What is on its way to the client: its order, its bound, its end."""

from __future__ import annotations

import asyncio

from rest_channels.outbox import Outbox, Wire
from rest_channels.protocol import Reply


class Client:
    """What the server sends to; reads one message each time it is told to, or all of them."""

    def __init__(self, *, is_reading: bool = False) -> None:
        self.messages: list[dict] = []
        self.reads = asyncio.Semaphore(0)
        self.is_reading = is_reading
        self.error: Exception | None = None

    async def send(self, message) -> None:
        if not self.is_reading:
            await self.reads.acquire()
        if self.error is not None:
            raise self.error
        self.messages.append(message)

    @property
    def texts(self) -> list[str]:
        return [m["text"] for m in self.messages if m["type"] == "websocket.send"]

    @property
    def close_code(self) -> int | None:
        return next((m["code"] for m in self.messages if m["type"] == "websocket.close"), None)

    async def read(self, count: int) -> None:
        for _ in range(count):
            self.reads.release()
        await settled()


async def settled() -> None:
    """Let every task that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


def story(coroutine_function):
    """Run `async def` tests, which need no more than a loop."""

    def test():
        asyncio.run(coroutine_function())

    test.__name__ = coroutine_function.__name__
    return test


@story
async def test_texts_are_sent_in_the_order_they_were_put():
    client = Client(is_reading=True)
    outbox = Outbox(client.send, 100)
    for text in "abc":
        await outbox.put(text)
    outbox.post("d")
    await settled()
    assert client.texts == ["a", "b", "c", "d"]


@story
async def test_one_text_is_sent_at_a_time():
    client = Client()
    outbox = Outbox(client.send, 100)
    outbox.post("a")
    outbox.post("b")
    await client.read(1)
    assert client.texts == ["a"]
    await client.read(1)
    assert client.texts == ["a", "b"]


@story
async def test_put_waits_until_there_is_room():
    client = Client()
    outbox = Outbox(client.send, 10)
    await outbox.put("x" * 10)
    waiting = asyncio.create_task(outbox.put("y"))
    await settled()
    assert not waiting.done()
    await client.read(1)
    assert waiting.done()
    await client.read(1)
    assert client.texts == ["x" * 10, "y"]


@story
async def test_what_was_read_makes_room():
    client = Client()
    outbox = Outbox(client.send, 10)
    outbox.post("a" * 5)
    for text in ("b" * 5, "c" * 5, "d" * 5):
        outbox.post(text)
        await client.read(1)
    await client.read(1)
    assert len(client.texts) == 4 and not outbox.is_closed


@story
async def test_what_is_longer_than_the_bound_is_sent_where_nothing_waits():
    client = Client(is_reading=True)
    outbox = Outbox(client.send, 10)
    outbox.post("x" * 1000)
    await outbox.put("y" * 1000)
    await settled()
    assert [len(text) for text in client.texts] == [1000, 1000]


@story
async def test_the_bound_counts_bytes_not_characters():
    client = Client()
    outbox = Outbox(client.send, 10)
    await outbox.put("é" * 4)
    fits = asyncio.create_task(outbox.put("zz"))
    exceeds = asyncio.create_task(outbox.put("z"))
    await settled()
    assert (fits.done(), exceeds.done()) == (True, False)
    outbox.discard()
    await exceeds


@story
async def test_a_client_too_slow_for_what_cannot_wait_is_closed_with_4408():
    client = Client()
    outbox = Outbox(client.send, 10)
    outbox.post("on its way")
    await settled()
    outbox.post("too much")
    assert outbox.is_closed
    await client.read(5)
    assert (client.texts, client.close_code) == (["on its way"], 4408)


@story
async def test_what_waited_when_it_was_too_slow_is_forgotten():
    client = Client()
    outbox = Outbox(client.send, 10)
    for text in ("on", "and on", "x" * 10):
        outbox.post(text)
        await settled()
    await client.read(5)
    assert (client.texts, client.close_code) == (["on"], 4408)


@story
async def test_closing_comes_after_what_is_queued_and_once():
    client = Client()
    outbox = Outbox(client.send, 100)
    outbox.post("a")
    outbox.close(4401)
    outbox.close(4429)
    outbox.post("never")
    await outbox.put("never")
    await client.read(5)
    types = [message["type"] for message in client.messages]
    assert types == ["websocket.send", "websocket.close"]
    assert client.close_code == 4401


@story
async def test_closing_lets_go_of_who_waits():
    client = Client()
    outbox = Outbox(client.send, 1)
    outbox.post("a")
    waiting = [asyncio.create_task(outbox.put("b")) for _ in range(3)]
    await settled()
    outbox.close(1000)
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    await client.read(5)
    assert client.texts == ["a"]


@story
async def test_discarding_sends_nothing_more():
    client = Client()
    outbox = Outbox(client.send, 100)
    outbox.post("a")
    outbox.post("b")
    await settled()
    outbox.discard()
    outbox.post("c")
    outbox.close(1000)
    await client.read(5)
    assert client.messages == []


@story
async def test_a_client_that_is_gone_ends_it_quietly():
    client = Client()
    outbox = Outbox(client.send, 2)
    outbox.post("a")
    waiting = asyncio.create_task(outbox.put("bb"))
    await settled()
    client.error = ConnectionResetError()
    await client.read(1)
    await asyncio.wait_for(waiting, 5)
    outbox.post("c")
    await client.read(5)
    assert outbox.is_closed and client.messages == []


@story
async def test_after_it_was_idle_it_sends_again_and_counts_from_nothing():
    client = Client(is_reading=True)
    outbox = Outbox(client.send, 10)
    for text in ("x" * 10, "y" * 10, "z" * 10):
        outbox.post(text)
        await settled()
    assert len(client.texts) == 3 and not outbox.is_closed


@story
async def test_a_wire_puts_replies_in_their_streams_envelope():
    client = Client(is_reading=True)
    outbox = Outbox(client.send, 1000)
    reply = Reply(204, action="x", request_id=1)
    Wire(outbox).post(reply)
    await Wire(outbox, "rooms").put(reply)
    await Wire(outbox, None).put_payload("{}")
    await settled()
    payload = reply.encode()
    assert client.texts == [
        payload,
        f'{{"stream": "rooms", "payload": {payload}}}',
        '{"stream": null, "payload": {}}',
    ]
