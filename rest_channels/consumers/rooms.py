"""
Rooms: a socket may be in several, and learns who else is.

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
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from rest_channels.consumers.base import Routes
from rest_channels.consumers.channels import Group
from rest_channels.consumers.handlers import consumer
from rest_channels.consumers.hearing import Place, Refusal
from rest_channels.consumers.history import Recent, keep, recent
from rest_channels.consumers.layers import GROUP_OFFER, to_json
from rest_channels.consumers.mixins import UserMixin
from rest_channels.consumers.sockets import ConsumersLane
from rest_channels.consumers.websockets import WebsocketConsumers
from rest_channels.exceptions import ConsumerError
from rest_channels.protocol import Reply

_MAX_ROOM_CHARS = 128


class RoomLane(ConsumersLane):
    """The rooms that one socket is in."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        #: By name: the room's group, and the key of its user there.
        self.rooms: dict[str, tuple[str, str]] = {}
        self._names: dict[str, str] = {}

    def enter_room(self, name: str, group: str, key: str) -> None:
        """The socket is in a room from now on."""
        self.rooms[name] = (group, key)
        self._names[group] = name

    def leave_room(self, name: str) -> None:
        """Leave a room, if the socket is in it."""
        if name in self.rooms:
            group, key = self.rooms.pop(name)
            del self._names[group]
            if self._hearing is not None:
                self._hearing.forget(name)
            self.hub.leave_group(group, self)
            self.hub.presence.leave(group, key)
            self.hub.feeds.leave(group, self)

    def may_hear(self, name: str, asked_at: float) -> None:
        """Permission for a room was asked for, and given."""
        if self._hearing is not None:
            self._hearing.allow(name, asked_at)

    def place_of(self, group: str) -> Place:
        return self._names.get(group)

    def review_content(self, place: Place) -> dict[str, Any]:
        return {} if place is None else {"action": "join", "room": place}

    def on_refused(self, place: Place, refusal: Refusal) -> None:
        if place is None or refusal.is_total:
            self.revoke(refusal.reply)
            return
        self.leave_room(place)
        reply = refusal.reply
        reply.action, reply.data = "revoke", to_json({"room": place})
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
    The actions `join`, `leave`, `send` and `presence`, each with a `room`, and those that
    `ephemeral` names. Members get the events `message`, `presence` and the ephemeral ones.
    """

    #: Actions whose `data` members get as an event that may be dropped: on its way to other
    #: processes, and for a client that does not keep up.
    ephemeral: Sequence[str] = ("typing",)
    #: How many of a room's last messages who joins is told; 0 keeps none. They are kept in a table.
    history: int = 0
    #: For how many seconds a user may be away, with a page that reloads, without having left.
    presence_grace: float = 5

    lane_class = RoomLane
    _sync_hooks = (
        *WebsocketConsumers._sync_hooks,
        *("get_room", "check_room_permission", "get_message_data"),
        *("get_user_key", "get_user_data", "get_group_name"),
    )

    @classmethod
    def get_routes(cls, prefix: str | None = None) -> Routes:
        if cls.internal:
            raise ImproperlyConfigured(
                f"{cls.__name__} serves rooms where the sockets are: it cannot be internal."
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
        """What `name` stands for. Raise Http404 where there is no such room."""
        return name

    def check_room_permission(self, room: Any, action: str) -> None:
        """Raise PermissionDenied where the user may not do `action`, an action's name, there."""

    def get_user_key(self) -> str:
        """What makes two sockets one user's; those of strangers are each a user."""
        pk = getattr(self.user, "pk", None)
        return f"socket {self._delivery.lane.id}" if pk is None else f"user {pk}"

    def get_user_data(self) -> Any:
        """What others are told of the user: JSON."""
        user = self.user
        if getattr(user, "pk", None) is None:
            return {"id": None, "name": ""}
        return {"id": str(user.pk), "name": user.get_username()}

    def get_message_data(self, room: Any, data: Any) -> Any:
        """
        What is told of a message that was sent: the event's `data` beside `room` and `user`.
        Validate it here, or store it: what is raised is the sender's to read, and nothing is sent.
        """
        return {"data": data}

    @consumer(action="join")
    def on_join(self, message: Any) -> None:
        asked_at = time.monotonic()
        name, _ = self._room("join")
        # As other processes will have it.
        key, user = self.get_user_key(), json.loads(to_json(self.get_user_data()))
        told = None
        if self.history:
            told = recent(self._group(name), self.history, message.content.get("since"))
        self._lane.hub.call(self._enter, name, key, user, told, asked_at)

    @consumer(action="leave")
    def on_leave(self, message: Any) -> None:
        name = self._room_name()
        self._lane.hub.call(self._lane.leave_room, name)
        self._answer(None, 204)

    @consumer(action="send")
    def on_send(self, message: Any) -> None:
        name, room = self._room("send")
        self._require_membership(name)
        if "data" not in message.content:
            raise ConsumerError("'data' is what is sent.", code="required")
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
        hub = self._lane.hub
        self._answer({"room": name, "users": hub.call(hub.presence.users, self._group(name))})

    @consumer(action=lambda cls, **kwargs: "|".join(map(re.escape, cls.ephemeral)) or r"(?!)")
    def on_ephemeral(self, message: Any) -> None:
        action = message.content["action"]
        name, _ = self._room(action)
        self._require_membership(name)
        data = {"room": name, "user": self.get_user_data(), "data": message.content.get("data")}
        text, hub, group = _event_text(action, data), self._lane.hub, self._group(name)
        hub.call_soon(hub.offer_to_group, group, text)
        hub.call(lambda: hub.tell_others(GROUP_OFFER, group, text=text))

    def get_group_name(self, room_name: str) -> str:
        """The group of a room: its own for each class of consumers."""
        return f"{self.get_channel_name()} room {room_name}"

    @property
    def _lane(self) -> RoomLane:
        lane = self._delivery.lane
        assert isinstance(lane, RoomLane)
        return lane

    def _group(self, name: str) -> str:
        return self.get_group_name(name)

    def _room_name(self) -> str:
        name = self.message.content.get("room")
        if not isinstance(name, str) or not 0 < len(name) <= _MAX_ROOM_CHARS:
            raise ConsumerError(
                f"'room' is required, a string of 1 to {_MAX_ROOM_CHARS} characters.",
                code="required",
            )
        return name

    def _room(self, action: str) -> tuple[str, Any]:
        name = self._room_name()
        room = self.get_room(name)
        self.check_room_permission(room, action)
        return name, room

    def _require_membership(self, name: str) -> None:
        if name not in self._lane.rooms:
            raise ConsumerError("Join the room first.", status=403, code="not_joined")

    def _on_kept(self, name: str, message_id: str) -> None:
        hub = self._lane.hub
        hub.call_soon(hub.announce_news, self._group(name))
        self._answer({"id": message_id}, 201)

    def _enter(self, name: str, key: str, user: Any, told: Recent | None, asked_at: float) -> None:
        # On the loop and in one go: the acknowledgement comes before the room's first event.
        lane, group = self._lane, self._group(name)
        hub = lane.hub
        if lane.is_gone:
            # Whoever is gone has left all rooms, and would never leave this one.
            return
        if name in lane.rooms:
            users = hub.presence.users(group)
        else:
            lane.require_room()
            # Not in the group yet: that it has joined is news for others.
            users = hub.presence.enter(
                group, key, user, announce=_announce(hub, name), grace=self.presence_grace
            )
            hub.join_group(group, lane)
            hub.start(hub.presence.ask(group))
            lane.enter_room(name, group, key)
        lane.may_hear(name, asked_at)
        data: dict[str, Any] = {"room": name, "users": users}
        if told is not None:
            # What is said from here on is told by the feed, and nothing twice.
            hub.feeds.enter(group, lane, told.place.number, _event_text, name)
            hub.start(hub.look_for_news(group))
            data["messages"] = [said.data for said in told.messages]
            data |= {"position": str(told.place), "resumed": told.is_resumed}
        lane.post(self._reply_text(data, 200))

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
    """An event in the shape of all replies."""
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
