"""A list that follows a subscription, as a project's tests use it."""

from __future__ import annotations

import pytest

from rest_channels.test import LiveList, SocketClient
from tests.live.delivery.test_windows import Items
from tests.models import Item
from tests.support.subscription_stories import routes

pytestmark = pytest.mark.django_db


@pytest.fixture
def socket():
    with SocketClient(routes(Items)) as client:
        yield client


@pytest.fixture
def items():
    return [Item.objects.create(name=f"i{number}", version=number) for number in range(4)]


def names(rows):
    return [row["name"] for row in rows]


def test_it_follows_a_window(socket, items):
    top = LiveList(socket.request("subscribe", request_id="s", window=2, snapshot=True))
    assert names(top.rows) == ["i3", "i2"]
    Item.objects.create(name="new", version=9)
    items[3].delete()
    while names(top.rows) != ["new", "i2"]:
        top.apply(socket.event())


def test_it_grows(socket, items):
    top = LiveList(socket.request("subscribe", request_id="s", window=2, snapshot=True))
    keys = {"request_id": "s", "window": 3, "since": top.position, "held": top.held}
    top.apply(socket.request("subscribe", **keys))
    assert names(top.rows) == ["i3", "i2"]
    top.apply(socket.event())
    assert names(top.rows) == ["i3", "i2", "i1"]


def test_without_an_order_new_rows_come_last(socket, items):
    rows = LiveList(socket.request("subscribe", request_id="s", snapshot=True))
    Item.objects.create(name="new", version=9)
    items[3].name = "renamed"
    items[3].save()
    for _ in range(2):
        rows.apply(socket.event())
    assert names(rows.rows) == ["renamed", "i2", "i1", "i0", "new"]


def test_it_notices_a_missing_event(socket, items):
    rows = LiveList(socket.request("subscribe", request_id="s", snapshot=True))
    for number in range(2):
        Item.objects.create(name=f"new {number}")
    socket.event()
    with pytest.raises(AssertionError, match="An event is missing"):
        rows.apply(socket.event())


def test_it_notices_a_row_that_it_does_not_hold(socket, items):
    top = LiveList(socket.request("subscribe", request_id="s", window=2, snapshot=True))
    top.rows.clear()
    items[3].delete()
    with pytest.raises(AssertionError, match="The list has no row"):
        top.apply(socket.event())


def test_a_reset_replaces_its_rows(socket, items):
    first = LiveList(socket.request("subscribe", request_id="s", window=2, snapshot=True))
    keys = {"request_id": "s", "window": 3, "since": first.position, "snapshot": True}
    first.apply(socket.request("subscribe", **keys))
    first.apply(socket.event())
    assert names(first.rows) == ["i3", "i2", "i1"]


def test_a_revoked_subscription_is_over(socket, items, settings):
    settings.REST_CHANNELS = {**settings.REST_CHANNELS, "MAX_SUBSCRIPTION_ROWS": 4}
    rows = LiveList(socket.request("subscribe", request_id="s", ordered=True, snapshot=True))
    Item.objects.create(name="too many")
    rows.apply(socket.event())
    assert (rows.is_over, rows.rows) == (True, [])
