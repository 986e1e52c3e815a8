"""
The sockets of this process and their groups.

A message to a group is encoded once. Members in this process receive it without the layer; each
other process receives it once, regardless of its number of members, and forwards it in the same
way. A hub belongs to an event loop and works on it.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Coroutine, Iterable
from concurrent.futures import Future
from typing import Any

from rest_channels.bus import channel_layer, process_channel, publisher
from rest_channels.bus.loops import PerLoop
from rest_channels.bus.messages import (
    GroupMembership,
    GroupMessage,
    GroupNews,
    GroupOffer,
    GroupTexts,
    GroupUsers,
    SocketText,
    to_layer,
)
from rest_channels.bus.process_channel import current_channel
from rest_channels.bus.tasks import BackgroundTasks
from rest_channels.consumers.groups.layers import (
    group_on_layer,
    parse_address,
    send_to_layer,
    socket_address,
)
from rest_channels.consumers.groups.members import Member
from rest_channels.consumers.groups.presence import Presence
from rest_channels.consumers.groups.room_feeds import Feeds
from rest_channels.exceptions import ConsumerError

logger = logging.getLogger("rest_channels")


class Hub:
    """The sockets of one event loop. On the loop, except `address`, `post` and `call`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        #: Identifies this hub among those of all processes.
        self.id = uuid.uuid4().hex
        #: The users in each group; here for all classes of consumers.
        self.presence = Presence(self)
        #: The messages of rooms with a history.
        self.feeds = Feeds()
        self._loop = loop
        self._members: dict[str, Member] = {}
        self._groups: dict[str, dict[Member, None]] = {}
        # Texts sent in this turn of the loop, by group.
        self._outgoing: dict[str, list[str]] = {}
        self._tasks = BackgroundTasks()
        self._channel = current_channel()
        self._channel.handle(SocketText, lambda text: self._post(text.socket, text.text))
        self._channel.handle(GroupMembership, self._on_membership)
        for kind in (GroupTexts, GroupOffer, GroupUsers, GroupNews):
            self._channel.handle(kind, self.take)

    @property
    def channel(self) -> str | None:
        """The channel of the layer by which other processes reach it; None without a layer."""
        return self._channel.name

    async def join(self, member: Member) -> None:
        """Add `member`, so that its address reaches it."""
        self._members[member.id] = member
        self._channel.hold(self)
        await self._channel.open()

    def leave(self, member: Member) -> None:
        """Remove `member`, whose socket is closed. The last one releases the layer's channel."""
        for group in list(member.groups):
            self.leave_group(group, member)
        self._members.pop(member.id, None)
        if not self._members:
            self._channel.release(self)

    def address(self, member: Member) -> str | None:
        """Return the address of `member` for any process; None without a layer. From any thread."""
        if self.channel is None:
            return None
        self._loop.call_soon_threadsafe(self._channel.listen)
        return socket_address(self.channel, member.id)

    def post(self, socket_id: str, text: str) -> None:
        """Send text to a socket of this loop, if it still exists; from any thread."""
        self._loop.call_soon_threadsafe(self._post, socket_id, text)

    def _post(self, socket_id: str, text: str) -> None:
        member = self._members.get(socket_id)
        if member is not None:
            member.post(text)

    def join_group(self, group: str, member: Member) -> None:
        """
        Add `member` to `group`: it receives messages from now on.

        It receives those of other processes once the layer knows. Raises `ConsumerError` if the
        member is in too many groups.
        """
        if group in member.groups or member.id not in self._members:
            return
        member.require_room()
        member.groups.add(group)
        members = self._groups.setdefault(group, {})
        members[member] = None
        if len(members) == 1 and channel_layer.shared_layer() is not None:
            self._channel.join(group_on_layer(group))

    def leave_group(self, group: str, member: Member) -> None:
        """Remove `member` from `group`."""
        if group not in member.groups:
            return
        member.groups.discard(group)
        members = self._groups[group]
        del members[member]
        if not members:
            del self._groups[group]
            self._channel.leave(group_on_layer(group))

    async def settle(self, groups: Iterable[str]) -> None:
        """
        Wait until the layer has recorded whether this process is in `groups`, or a call has failed.
        """
        await self._channel.settle(map(group_on_layer, groups))

    def send_to_group(self, group: str, text: str) -> None:
        """Send text to the members of this loop."""
        for member in list(self._groups.get(group, ())):
            member.receive(group, text)

    def offer_to_group(self, group: str, text: str) -> None:
        """Send text to the members of this loop that keep up."""
        for member in list(self._groups.get(group, ())):
            member.receive(group, text, may_be_lost=True)

    def tell_others(self, message: GroupMessage) -> None:
        """Send `message` soon to other hubs that have members of its group."""
        for hub in local_hubs():
            if hub is not self:
                hub.call_soon(hub.take, message)
        publish(message)

    def announce_news(self, group: str) -> None:
        """Announce to all hubs that `group`, a room with a history, has a new message."""
        self.feeds.news(group)
        self.tell_others(GroupNews(process_channel.process_id, group))

    async def look_for_news(self, group: str) -> None:
        """Look for messages once the layer knows the members here; later announcements arrive."""
        await self.settle([group])
        self.feeds.news(group)

    def publish(self, group: str, text: str) -> None:
        """
        Send text to members in other processes, together with all texts of this turn of the loop.
        """
        if not self._outgoing:
            self._loop.call_soon(self._publish_all)
        self._outgoing.setdefault(group, []).append(text)

    def _publish_all(self) -> None:
        outgoing, self._outgoing = self._outgoing, {}
        for group, texts in outgoing.items():
            publish_texts(group, texts)

    def take(self, message: GroupMessage) -> None:
        """Handle a message of another process, or of another hub of this one."""
        match message:
            case GroupTexts():
                for text in message.texts:
                    self.send_to_group(message.group, text)
            case GroupOffer():
                self.offer_to_group(message.group, message.text)
            case GroupUsers():
                self.presence.take(message)
            case GroupNews():
                self.feeds.news(message.group)

    def _on_membership(self, message: GroupMembership) -> None:
        self.change_membership(message.group, message.socket, message.joins)

    def change_membership(self, group: str, socket_id: str, joins: bool) -> None:
        """Make a socket join or leave a group, if it still exists and has room."""
        member = self._members.get(socket_id)
        if member is None:
            return
        try:
            (self.join_group if joins else self.leave_group)(group, member)
        except ConsumerError as exc:
            logger.warning("A socket did not join a group: %s", exc)

    def call_later(self, seconds: float, function: Any, *args: Any) -> asyncio.TimerHandle:
        """Call `function` on the loop after `seconds`; on the loop."""
        return self._loop.call_later(seconds, function, *args)

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run `coroutine` in the background; on the loop."""
        self._tasks.start(coroutine)

    def call(self, function: Any, *args: Any) -> Any:
        """Call `function` on the loop and return or raise its result; from any thread."""
        try:
            if asyncio.get_running_loop() is self._loop:
                return function(*args)
        except RuntimeError:
            # A worker thread: no loop runs here.
            pass
        outcome: Future[Any] = Future()

        def run() -> None:
            try:
                outcome.set_result(function(*args))
            except Exception as exc:
                outcome.set_exception(exc)

        self._loop.call_soon_threadsafe(run)
        return outcome.result()

    def call_soon(self, function: Any, *args: Any) -> None:
        """Call `function` on the loop, without waiting; from any thread."""
        self._loop.call_soon_threadsafe(function, *args)


_hubs: PerLoop[Hub] = PerLoop(Hub)


def running_hub() -> Hub:
    """Return the hub of the running event loop."""
    return _hubs.current()


def local_hubs() -> list[Hub]:
    """Return the hubs of this process whose loops run: one, except in tests."""
    return _hubs.running()


def publish(message: GroupMessage) -> None:
    """Send `message` to other processes that have members of its group; from any thread."""
    if channel_layer.shared_layer() is not None:
        publisher.publish(group_on_layer(message.group), message)


def publish_texts(group: str, texts: list[str]) -> None:
    """Send `texts` to the members of `group` in other processes; from any thread."""
    if channel_layer.shared_layer() is not None:
        messages = [GroupTexts(process_channel.process_id, group, [text]) for text in texts]
        publisher.publish(group_on_layer(group), *messages)


async def send_to_socket(address: str, text: str) -> None:
    """
    Send JSON text to the socket with that address, in any process.

    If the socket no longer exists, the text is dropped without a sign. Raises `ConsumerError` if
    the layer does not accept it.
    """
    channel, socket_id = parse_address(address)
    for hub in local_hubs():
        if hub.channel == channel:
            hub.post(socket_id, text)
            return
    await send_to_layer(channel, to_layer(SocketText(socket_id, text)))


def send_to_group(group: str, text: str) -> None:
    """
    Send JSON text to the members of `group`, here and in other processes; from any thread.

    Members of this process receive it even if the layer fails, which raises nothing. If no event
    loop runs in this process, wait for the layer, at most `PUBLISH_SECONDS`.
    """
    hubs = local_hubs()
    for hub in hubs:
        hub.call_soon(hub.send_to_group, group, text)
    try:
        publishing = running_hub()
    except RuntimeError:
        # A thread without an event loop.
        if not hubs:
            publish_texts(group, [text])
            publisher.flush()
            return
        publishing = hubs[0]
    publishing.call_soon(publishing.publish, group, text)


async def change_membership(group: str, address: str, joins: bool) -> None:
    """
    Make the socket with that address, in any process, join or leave `group`.

    Raises `ConsumerError` if the layer does not accept the message.
    """
    channel, socket_id = parse_address(address)
    for hub in local_hubs():
        if hub.channel == channel:
            hub.call_soon(hub.change_membership, group, socket_id, joins)
            return
    await send_to_layer(channel, to_layer(GroupMembership(group, socket_id, joins)))
