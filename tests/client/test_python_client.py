"""The Python client over a real socket to a real server."""

from __future__ import annotations

import pytest

from rest_channels.client import ApiError
from tests.support.python_client import Chat, new_room, run


def test_a_client_calls_and_follows(chat: Chat) -> None:
    async def story() -> None:
        async with chat.user("ann") as ann:
            room = await new_room(ann)
            async with ann.messages.live(query={"room": room}) as messages:
                assert messages.rows == ()
                hello = await ann.messages.create({"room": room, "text": "Hello"})
                assert messages.rows == (hello,)
                await ann.messages.patch(hello["id"], {"text": "Hello again"})
                assert [row["text"] for row in messages.rows] == ["Hello again"]
                assert await ann.messages.list({"room": room}) == list(messages.rows)
                await ann.messages.destroy(hello["id"])
                assert messages.rows == ()

    run(story())


def test_a_refusal_is_an_exception_with_the_detail_of_the_framework(chat: Chat) -> None:
    async def story() -> None:
        async with chat.user("ann") as ann:
            with pytest.raises(ApiError) as caught:
                await ann.messages.create({"room": 0})
        assert (caught.value.status, caught.value.fields["text"]) == (
            400,
            ["This field is required."],
        )
        assert caught.value.codes[0]["room"] == ["does_not_exist"]

    run(story())
