"""
The messages between processes, and their form on the channel layer.

    content = to_layer(Look("default"))     # {"type": "rest_channels.look", "database": "default"}
    from_layer(content)                     # Look("default")

Processes of another release read these messages: add fields with care, and give a message with
another meaning another type. All values are JSON values, which every layer accepts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Look:
    """A write to the database of the alias `database`; None if any database may have changed."""

    database: str | None


@dataclass(frozen=True, slots=True)
class SocketText:
    """JSON text for one socket of the receiving process."""

    socket: str
    text: str


@dataclass(frozen=True, slots=True)
class GroupMembership:
    """A request that a socket of the receiving process join or leave a group."""

    group: str
    socket: str
    joins: bool


@dataclass(frozen=True, slots=True)
class GroupTexts:
    """
    JSON texts for the members of a group.

    `process` is the sending process, here and below.
    """

    process: str
    group: str
    texts: list[str]


@dataclass(frozen=True, slots=True)
class GroupOffer:
    """A JSON text for the members of a group that keep up."""

    process: str
    group: str
    text: str


@dataclass(frozen=True, slots=True)
class GroupUsers:
    """
    The users that one hub has in a group, by key.

    If it `asks`, other hubs answer with their users.
    """

    process: str
    group: str
    hub: str
    users: dict[str, Any]
    asks: bool


@dataclass(frozen=True, slots=True)
class GroupNews:
    """A room with a history has a new message."""

    process: str
    group: str


@dataclass(frozen=True, slots=True)
class Echo:
    """A process tests whether it receives what it sends; `nonce` tells its tests apart."""

    nonce: str


GroupMessage = GroupTexts | GroupOffer | GroupUsers | GroupNews
Message = Look | SocketText | GroupMembership | GroupMessage | Echo

_KINDS: Final[dict[str, type[Message]]] = {
    "rest_channels.look": Look,
    "rest_channels.socket_text": SocketText,
    "rest_channels.group_membership": GroupMembership,
    "rest_channels.group_texts": GroupTexts,
    "rest_channels.group_offer": GroupOffer,
    "rest_channels.group_presence": GroupUsers,
    "rest_channels.group_news": GroupNews,
    "rest_channels.echo": Echo,
}
_TYPES: Final = {kind: name for name, kind in _KINDS.items()}
_FIELDS: Final = {kind: [field.name for field in fields(kind)] for kind in _TYPES}


def to_layer(message: Message) -> dict[str, Any]:
    """Return the form of `message` on the layer."""
    kind = type(message)
    return {"type": _TYPES[kind], **{name: getattr(message, name) for name in _FIELDS[kind]}}


def from_layer(content: Mapping[str, Any]) -> Message | None:
    """Return the message in `content`; None if this release does not know its type or a field."""
    kind = _KINDS.get(content.get("type", ""))
    if kind is None or any(name not in content for name in _FIELDS[kind]):
        return None
    return kind(**{name: content[name] for name in _FIELDS[kind]})
