"""
Rooms: a socket may be in several, and sees the users in them.

    class Chat(RoomConsumers):
        def get_room(self, name):
            return get_object_or_404(Room, name=name)

        def check_room_permission(self, room, action):
            if room.is_staff_only and not self.user.is_staff:
                raise PermissionDenied

    > {"action": "join", "room": "attic", "request_id": 1}
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from rest_framework.serializers import BaseSerializer

from rest_channels.bus import process_channel
from rest_channels.bus.messages import GroupOffer
from rest_channels.consumers.base import Routes
from rest_channels.consumers.channels import Group
from rest_channels.consumers.consumer_streams import ConsumersQueue
from rest_channels.consumers.groups.authorization import Refusal, Source
from rest_channels.consumers.groups.layers import to_json
from rest_channels.consumers.groups.room_history import Recent, keep, message_id, recent
from rest_channels.consumers.handlers import consumer
from rest_channels.consumers.user_mixins import UserMixin
from rest_channels.consumers.websockets import WebsocketConsumers
from rest_channels.exceptions import ConsumerError
from rest_channels.protocol import Reply

#: The longest name of a room, in characters.
MAX_ROOM_CHARS: Final = 128


class RoomQueue(ConsumersQueue):
    """The queue of a socket's frames, with the rooms that it is in."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        #: By name: the room's group, and the user's key there.
        self.rooms: dict[str, tuple[str, str]] = {}
        self._names: dict[str, str] = {}

    def enter_room(self, name: str, group: str, key: str) -> None:
        """Note that the socket is in a room."""
        self.rooms[name] = (group, key)
        self._names[group] = name

    def leave_room(self, name: str) -> None:
        """Leave a room, if the socket is in it."""
        if name in self.rooms:
            group, key = self.rooms.pop(name)
            del self._names[group]
            if self._authorization is not None:
                self._authorization.forget(name)
            self.hub.leave_group(group, self)
            self.hub.presence.leave(group, key)
            self.hub.feeds.leave(group, self)

    def allow(self, name: str, asked_at: float) -> None:
        """Note that permission for a room was checked and given."""
        if self._authorization is not None:
            self._authorization.allow(name, asked_at)

    def source_of(self, group: str) -> Source:
        return self._names.get(group)

    def review_content(self, source: Source) -> dict[str, Any]:
        return {} if source is None else {"action": "join", "room": source}

    def on_refused(self, source: Source, refusal: Refusal) -> None:
        if source is None or refusal.is_total:
            self.revoke(refusal.reply)
            return
        self.leave_room(source)
        reply = refusal.reply
        reply.action, reply.data = "revoke", to_json({"room": source})
        self.post(reply.encode())

    async def _end(self, code: int) -> None:
        try:
            await super()._end(code)
        finally:
            self._leave_all()

    def abandon(self) -> None:
        super().abandon()
        self._leave_all()

    def _leave_all(self) -> None:
        for name in list(self.rooms):
            self.leave_room(name)


class RoomConsumers(UserMixin, WebsocketConsumers):
    """
    The actions `join`, `leave`, `send` and `presence`, each with a `room`, and ephemeral ones.

    The names in `ephemeral` are actions, too. Members receive the events `message` and `presence`,
    and the ephemeral ones.
    """

    #: Actions whose `data` members receive as an event that may be dropped: on its way to other
    #: processes, or for a client that does not keep up.
    ephemeral: Sequence[str] = ("typing",)
    #: The number of a room's last messages that a new member receives. They are stored in a table;
    #: 0 stores none.
    history: int = 0
    #: How long a user may be away, for example while a page reloads, without having left (seconds).
    presence_grace: float = 5
    #: The serializer of a user, for other members; by default they receive `id` and `name`.
    user_serializer_class: type[BaseSerializer] | None = None
    #: The serializer that validates the `data` of a message; by default it may be any JSON.
    message_serializer_class: type[BaseSerializer] | None = None

    queue_class = RoomQueue
    _sync_hooks = (
        *WebsocketConsumers._sync_hooks,
        *("get_room", "check_room_permission", "get_message_data"),
        *("get_user_key", "get_user_data", "get_group_name"),
    )

    @classmethod
    def get_routes(cls, prefix: str | None = None) -> Routes:
        if cls.internal:
            raise ImproperlyConfigured(
                f"{cls.__name__} must serve rooms in the process of their sockets: remove internal."
            )
        return super().get_routes(prefix)

    @classmethod
    def guards_places(cls) -> bool:
        return (
            cls.get_room is not RoomConsumers.get_room
            or cls.check_room_permission is not RoomConsumers.check_room_permission
        )

    def check_hearing(self) -> None:
        if "room" in self.message.content:
            self._room("join")

    def get_room(self, name: str) -> Any:
        """Return the room that `name` stands for. Raise Http404 if there is none."""
        return name

    def check_room_permission(self, room: Any, action: str) -> None:
        """
        Raise PermissionDenied if the user may not do `action`, the name of an action, in `room`.
        """

    def get_user_key(self) -> str:
        """
        Return a key that is equal for all sockets of a user; anonymous sockets are a user each.
        """
        pk = getattr(self.user, "pk", None)
        return f"socket {self._socket.queue.id}" if pk is None else f"user {pk}"

    def get_user_data(self) -> Any:
        """Return what other members receive about the user, as JSON."""
        user = self.user
        if self.user_serializer_class is not None:
            return self.user_serializer_class(user, context=self._serializer_context()).data
        if getattr(user, "pk", None) is None:
            return {"id": None, "name": ""}
        return {"id": str(user.pk), "name": user.get_username()}

    def get_message_data(self, room: Any, data: Any) -> Any:
        """
        Return an event's `data` for a sent message, beside `room` and `user`.

        Validate or store the message here: the sender receives any exception as an error, and
        nothing is sent.
        """
        if self.message_serializer_class is not None:
            context = self._serializer_context()
            serializer = self.message_serializer_class(data=data, context=context)
            serializer.is_valid(raise_exception=True)
            return {"data": serializer.data}
        return {"data": data}

    @consumer(action="join")
    def on_join(self, message: Any) -> None:
        asked_at = time.monotonic()
        name, _ = self._room("join")
        # In the form in which other processes receive it.
        key, user = self.get_user_key(), json.loads(to_json(self.get_user_data()))
        told = None
        if self.history:
            told = recent(self._group(name), self.history, message.content.get("since"))
        self._queue.hub.call(self._enter, name, key, user, told, asked_at)

    @consumer(action="leave")
    def on_leave(self, message: Any) -> None:
        name = self._room_name()
        self._queue.hub.call(self._queue.leave_room, name)
        self._answer(None, 204)

    @consumer(action="send")
    def on_send(self, message: Any) -> None:
        name, room = self._room("send")
        self._require_membership(name)
        if "data" not in message.content:
            raise ConsumerError("'data' is required: the message to send.", code="required")
        told = self.get_message_data(room, message.content["data"])
        data = {"room": name, "user": self.get_user_data(), **told}
        if self.history:
            keep(self._group(name), data, self.history, partial(self._on_kept, name))
        else:
            Group(self._group(name)).send(_event("message", data))
            self._answer(None, 201)

    @consumer(action="presence")
    def on_presence(self, message: Any) -> None:
        name, _ = self._room("presence")
        self._require_membership(name)
        hub = self._queue.hub
        self._answer({"room": name, "users": hub.call(hub.presence.users, self._group(name))})

    @consumer(action=lambda cls, **kwargs: "|".join(map(re.escape, cls.ephemeral)) or r"(?!)")
    def on_ephemeral(self, message: Any) -> None:
        action = message.content["action"]
        name, _ = self._room(action)
        self._require_membership(name)
        data = {"room": name, "user": self.get_user_data(), "data": message.content.get("data")}
        text, hub, group = _event_text(action, data), self._queue.hub, self._group(name)
        hub.call_soon(hub.offer_to_group, group, text)
        hub.call(hub.tell_others, GroupOffer(process_channel.process_id, group, text))

    def get_group_name(self, room_name: str) -> str:
        """Return the group of a room: each class of consumers has its own."""
        return f"{self.get_channel_name()} room {room_name}"

    @property
    def _queue(self) -> RoomQueue:
        queue = self._socket.queue
        assert isinstance(queue, RoomQueue)
        return queue

    def _serializer_context(self) -> dict[str, Any]:
        return {"request": self.request, "view": self}

    def _group(self, name: str) -> str:
        return self.get_group_name(name)

    def _room_name(self) -> str:
        name = self.message.content.get("room")
        if not isinstance(name, str) or not 0 < len(name) <= MAX_ROOM_CHARS:
            raise ConsumerError(
                f"'room' is required: a string of 1 to {MAX_ROOM_CHARS} characters.",
                code="required",
            )
        return name

    def _room(self, action: str) -> tuple[str, Any]:
        name = self._room_name()
        room = self.get_room(name)
        self.check_room_permission(room, action)
        return name, room

    def _require_membership(self, name: str) -> None:
        if name not in self._queue.rooms:
            raise ConsumerError("Join the room first.", status=403, code="not_joined")

    def _on_kept(self, name: str, message_id: str) -> None:
        hub = self._queue.hub
        hub.call_soon(hub.announce_news, self._group(name))
        self._answer({"id": message_id}, 201)

    def _enter(self, name: str, key: str, user: Any, told: Recent | None, asked_at: float) -> None:
        # On the loop in one step, so that the reply comes before the room's first event.
        queue, group = self._queue, self._group(name)
        hub = queue.hub
        if queue.is_gone:
            # A closed socket has left all rooms, and would never leave this one.
            return
        if name in queue.rooms:
            users = hub.presence.users(group)
        else:
            queue.require_room()
            # Not in the group yet, so that only others receive the news that it has joined.
            users = hub.presence.enter(
                group, key, user, announce=_announce(hub, name), grace=self.presence_grace
            )
            hub.join_group(group, queue)
            hub.start(hub.presence.ask(group))
            queue.enter_room(name, group, key)
        queue.allow(name, asked_at)
        data: dict[str, Any] = {"room": name, "users": users}
        if told is not None:
            # The feed sends messages from here on, and none twice.
            hub.feeds.enter(group, queue, told.position.number, _event_text, name)
            hub.start(hub.look_for_news(group))
            data["messages"] = [said.data for said in told.messages]
            data |= {"position": message_id(told.position), "resumed": told.is_resumed}
        queue.post(self._reply_text(data, 200))

    def _answer(self, data: Any, status: int = 200) -> None:
        self._outlet.say(self._reply_text(data, status))

    def _reply_text(self, data: Any, status: int) -> str:
        content = self.message.content
        return Reply(
            status,
            data=to_json(data),
            action=content.get("action"),
            request_id=content.get("request_id"),
        ).encode()


def _event(action: str, data: Any) -> dict[str, Any]:
    """Return an event in the shape of all replies."""
    return {
        "errors": [],
        "data": data,
        "action": action,
        "response_status": 200,
        "request_id": None,
    }


def _event_text(action: str, data: Any) -> str:
    return to_json(_event(action, data))


def _announce(hub: Any, name: str) -> Any:
    def announce(group: str, what: str, user: Any) -> None:
        data = {"room": name, "event": what, "user": user}
        hub.send_to_group(group, _event_text("presence", data))

    return announce
