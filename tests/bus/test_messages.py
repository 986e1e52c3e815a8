"""The messages between processes, as processes of every release know them on the layer."""

from __future__ import annotations

import json

import pytest

from rest_channels.bus.messages import (
    GroupMembership,
    GroupNews,
    GroupOffer,
    GroupTexts,
    GroupUsers,
    Look,
    SocketText,
    from_layer,
    to_layer,
)

# While an upgrade is rolled out, processes of two releases share one layer.
ON_THE_LAYER = [
    (Look("default"), {"type": "rest_channels.look", "database": "default"}),
    (
        SocketText("s", '"hello"'),
        {"type": "rest_channels.socket_text", "socket": "s", "text": '"hello"'},
    ),
    (
        GroupMembership("g", "s", True),
        {"type": "rest_channels.group_membership", "group": "g", "socket": "s", "joins": True},
    ),
    (
        GroupTexts("p", "g", ["1", "2"]),
        {"type": "rest_channels.group_texts", "process": "p", "group": "g", "texts": ["1", "2"]},
    ),
    (
        GroupOffer("p", "g", "1"),
        {"type": "rest_channels.group_offer", "process": "p", "group": "g", "text": "1"},
    ),
    (
        GroupUsers("p", "g", "h", {"user 1": {"name": "ann"}}, False),
        {
            "type": "rest_channels.group_presence",
            "process": "p",
            "group": "g",
            "hub": "h",
            "users": {"user 1": {"name": "ann"}},
            "asks": False,
        },
    ),
    (GroupNews("p", "g"), {"type": "rest_channels.group_news", "process": "p", "group": "g"}),
]
KINDS = [type(message).__name__ for message, _ in ON_THE_LAYER]


@pytest.mark.parametrize("message,content", ON_THE_LAYER, ids=KINDS)
def test_their_form_on_the_layer(message, content):
    assert to_layer(message) == content
    assert from_layer(json.loads(json.dumps(content))) == message


@pytest.mark.parametrize("message,content", ON_THE_LAYER, ids=KINDS)
def test_a_newer_release_may_add_a_field_and_take_none_away(message, content):
    assert from_layer({**content, "since": 2}) == message
    for name in content:
        assert from_layer({key: value for key, value in content.items() if key != name}) is None


def test_a_message_of_another_kind_is_ignored():
    assert from_layer({"type": "rest_channels.of_a_newer_release"}) is None
    assert from_layer({"type": "chat.message", "text": "hello"}) is None
