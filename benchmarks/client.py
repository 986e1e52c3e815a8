"""
The load: connections that each send a frame and wait for the reply, or members of a group.

One member of a group sends and all receive. Run as a process of its own, it prints one JSON object.
It speaks just enough of RFC 6455 to cost little: a mask of zeros, frames below 64 KiB, no
extensions.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.running import cpu_seconds

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: {key}\r\n\r\n"
)


class Client(asyncio.Protocol):
    """
    One connection; `make_frame` returns the next text, `on_reply` receives the seconds it took.
    """

    def __init__(
        self, path: str, port: int, make_frame: Callable[[], str], on_reply: Callable[..., None]
    ) -> None:
        self.path, self.port = path, port
        self.make_frame, self.on_reply = make_frame, on_reply
        self.buffer = b""
        self.is_open = asyncio.get_running_loop().create_future()
        self.is_stopped = False
        self.sent_at = 0.0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(HANDSHAKE.format(path=self.path, port=self.port, key=key).encode())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.is_open.done():
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head.split(b"\r\n")[0]:
                raise RuntimeError(f"handshake refused: {head!r}")
            self.buffer = rest
            self.is_open.set_result(None)
        while (payload := self.next_message()) is not None:
            self.on_reply(self, time.perf_counter() - self.sent_at, payload)

    def next_message(self) -> bytes | None:
        buffer = self.buffer
        if len(buffer) < 2:
            return None
        length, start = buffer[1] & 127, 2
        if length == 126:
            start = 4
            length = struct.unpack_from("!H", buffer, 2)[0] if len(buffer) >= 4 else 1 << 62
        elif length == 127:
            start = 10
            length = struct.unpack_from("!Q", buffer, 2)[0] if len(buffer) >= 10 else 1 << 62
        if len(buffer) < start + length:
            return None
        opcode, payload = buffer[0] & 15, buffer[start : start + length]
        self.buffer = buffer[start + length :]
        if opcode == 9:
            self.write(0x8A, payload)
            return self.next_message()
        if opcode == 8:
            raise RuntimeError(f"the server closed the socket: {payload!r}")
        return payload

    def send_next(self) -> None:
        if not self.is_stopped:
            self.sent_at = time.perf_counter()
            self.write(0x81, self.make_frame().encode())

    def write(self, first: int, payload: bytes) -> None:
        length = len(payload)
        if length < 126:
            head = struct.pack("!BBI", first, 128 | length, 0)
        else:
            head = struct.pack("!BBHI", first, 128 | 126, length, 0)
        self.transport.write(head + payload)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.is_stopped:
            print("the connection was lost", file=sys.stderr)
            os._exit(1)


def frames(kind: str) -> Callable[[], str]:
    """Return a function that makes the text of the next frame."""
    data = {"author": 3, "text": "word " * 20, "is_read": True, "score": 5}
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "retrieve": lambda: {"action": "retrieve", "pk": random.randint(1, 1000)},
        "list": lambda: {"action": "list"},
        "create": lambda: {"action": "create", "data": data},
        "update": lambda: {"action": "update", "pk": random.randint(1, 1000), "data": data},
    }
    if kind.startswith("slow:"):
        seconds = kind.removeprefix("slow:")
        return lambda: json.dumps(
            {"action": "slow", "query": {"seconds": seconds}, "request_id": 1}
        )
    if kind.startswith("list:"):
        limit = int(kind.removeprefix("list:"))
        return lambda: json.dumps({"action": "list", "limit": limit, "request_id": 1})
    make = makers[kind]
    return lambda: json.dumps({**make(), "request_id": 1})


async def load(
    port: int,
    kind: str,
    connections: int,
    seconds: float,
    warmup: float,
    beside: str,
    many: int,
    pid: int,
) -> dict[str, Any]:
    """
    Let `connections` ask for `kind`, and `many` others for `beside`, for some seconds.

    Only `kind` is measured, after the warm-up. Latencies are in seconds.
    `pid` is the server's.
    """
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    is_measured = False

    def on_reply(client: Client, latency: float, payload: bytes) -> None:
        if b'"response_status"' in payload and b'"response_status": 2' not in payload:
            raise RuntimeError(payload.decode()[:500])
        if is_measured:
            latencies.append(latency)
        client.send_next()

    def on_other_reply(client: Client, latency: float, payload: bytes) -> None:
        client.send_next()

    async def connect(frame_kind: str, hear: Callable[..., None]) -> Client:
        make_frame = frames(frame_kind)
        _, client = await loop.create_connection(
            lambda: Client("/messages/", port, make_frame, hear), "127.0.0.1", port
        )
        await client.is_open
        return client

    clients = [await connect(kind, on_reply) for _ in range(connections)]
    others = [await connect(beside, on_other_reply) for _ in range(many if beside else 0)]
    for client in [*others, *clients]:
        client.send_next()
    await asyncio.sleep(warmup)
    is_measured, began, cpu = True, time.perf_counter(), time.process_time()
    of_server = cpu_seconds(pid)
    await asyncio.sleep(seconds)
    of_server = cpu_seconds(pid) - of_server
    elapsed = time.perf_counter() - began
    busy = (time.process_time() - cpu) / elapsed
    is_measured = False
    for client in [*others, *clients]:
        client.is_stopped = True
        client.transport.close()
    return figures(latencies, len(latencies), elapsed, busy, of_server)


async def broadcast(
    port: int, members: int, seconds: float, warmup: float, ahead: int, pid: int
) -> dict[str, Any]:
    """
    Let one of `members` send to all, `ahead` messages before all have the first of them.

    Latencies are in seconds, from the sending to the last member; the throughput is deliveries.
    """
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    sent_at: dict[int, float] = {}
    missing: dict[int, int] = {}
    state = {"next": 0, "deliveries": 0, "is_measured": False}
    # Messages of an earlier run may still be on their way.
    run = os.urandom(8).hex()
    mark = run.encode()

    def send() -> None:
        number = state["next"]
        state["next"] += 1
        missing[number], sent_at[number] = members, time.perf_counter()
        content = {"number": number, "run": run, "text": "word " * 20}
        clients[0].write(0x81, json.dumps(content).encode())

    def on_message(client: Client, latency: float, payload: bytes) -> None:
        if mark not in payload:
            return
        number = json.loads(payload)["number"] if client is clients[-1] else None
        state["deliveries"] += state["is_measured"]
        # Each member's messages arrive in order: most need not be parsed to be identified.
        at = expected[client] if number is None else number
        if at != expected[client]:
            raise RuntimeError(f"message {expected[client]} was lost")
        expected[client] += 1
        missing[at] -= 1
        if not missing[at]:
            del missing[at]
            if state["is_measured"]:
                latencies.append(time.perf_counter() - sent_at[at])
            del sent_at[at]
            if not client.is_stopped:
                send()

    clients: list[Client] = []
    expected: dict[Client, int] = {}
    for _ in range(members):
        _, client = await loop.create_connection(
            lambda: Client("/messages/", port, str, on_message), "127.0.0.1", port
        )
        await client.is_open
        expected[client] = 0
        clients.append(client)
    for _ in range(ahead):
        send()
    await asyncio.sleep(warmup)
    state["is_measured"], began, cpu = True, time.perf_counter(), time.process_time()
    of_server = cpu_seconds(pid)
    await asyncio.sleep(seconds)
    of_server = cpu_seconds(pid) - of_server
    elapsed = time.perf_counter() - began
    busy = (time.process_time() - cpu) / elapsed
    state["is_measured"] = False
    for client in clients:
        client.is_stopped = True
        client.transport.close()
    return figures(latencies, state["deliveries"], elapsed, busy, of_server)


def figures(
    latencies: list[float], count: int, elapsed: float, busy: float, of_server: float
) -> dict[str, Any]:
    latencies.sort()
    last = len(latencies) - 1
    return {
        "throughput": count / elapsed,
        "p50": latencies[len(latencies) // 2] if latencies else None,
        "p99": latencies[min(last, int(len(latencies) * 0.99))] if latencies else None,
        "count": count,
        "client_busy": busy,
        "cpu_us": 1e6 * of_server / count if count else None,
    }


async def hold(port: int, connections: int) -> None:
    """Open connections, report it, and hold them until standard input ends."""
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(connections):
        _, client = await loop.create_connection(
            lambda: Client("/messages/", port, str, lambda *args: None), "127.0.0.1", port
        )
        await client.is_open
        clients.append(client)
    print("held", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    for client in clients:
        client.is_stopped = True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("kind")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--warmup", type=float, default=0.5)
    parser.add_argument("--beside", default="")
    parser.add_argument("--ahead", type=int, default=4)
    parser.add_argument("--many", type=int, default=0)
    parser.add_argument("--pid", type=int, help="the server's, to measure its processor time")
    options = parser.parse_args()
    if options.kind == "hold":
        asyncio.run(hold(options.port, options.connections))
        return
    if options.kind == "broadcast":
        told = broadcast(
            options.port,
            options.connections,
            options.seconds,
            options.warmup,
            options.ahead,
            options.pid,
        )
        print(json.dumps(asyncio.run(told)))
        return
    result = asyncio.run(
        load(
            options.port,
            options.kind,
            options.connections,
            options.seconds,
            options.warmup,
            options.beside,
            options.many,
            options.pid,
        )
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
