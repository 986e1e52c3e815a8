"""Rows pushed out of a window whose names are not their keys: the reason comes, also on resume."""

from __future__ import annotations

import base64
from datetime import date, timedelta
from decimal import Decimal

import pytest
from rest_framework import serializers

from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Item, Shelf
from tests.support import keyed_models
from tests.support.stepped_processes import running
from tests.support.subscription_stories import routes

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]


@pytest.fixture
def processes():
    with running() as shared:
        yield shared


def showing(model_class, *shown, **declared):
    class Shown(serializers.ModelSerializer):
        class Meta:
            model = model_class
            fields = shown

    return type("Shown", (Shown,), declared)


class Open(ModelConsumerViewSet):
    authentication_classes = permission_classes = filter_backends = []
    lookup_value_regex = "[^/]+"


class ByName(Open):
    """The key stays hidden."""

    queryset = Item.objects.exclude(name="hidden").order_by("-version")
    serializer_class = showing(Item, "name", "version")
    lookup_field = "name"


class ByNameAndKey(ByName):
    serializer_class = showing(Item, "id", "name", "version")


class ByShelf(ByName):
    """A name through a relation."""

    queryset = Item.objects.exclude(name="hidden").order_by("-version")
    serializer_class = showing(Item, "version")
    lookup_field = "shelf__name"
    lookup_url_kwarg = "shelf"


class Coded(ByName):
    """A name that only the serializer knows."""

    lookup_field = "pk"
    serializer_class = showing(Item, "id", id=serializers.SerializerMethodField(), get_id=None)


def code(self, item):
    return f"code-{item.name}"


Coded.serializer_class.get_id = code


class FirstFew(ByName):
    """A slice: its rows are read together."""

    queryset = Item.objects.order_by("-version")[:4]


def make_items():
    for version, name in enumerate("abcd"):
        Item.objects.create(name=name, version=version, shelf=Shelf.objects.create(name=name))
    for version in range(-9, 0):
        # Without a shelf, and so without a name by its shelf.
        Item.objects.create(name=f"old {version}", version=version)


def change(which, **values):
    def write():
        item = Item.objects.get(name=which)
        for key, value in values.items():
            setattr(item, key, value)
        item.save()

    return write


def named(view, name):
    """The data of a `delete` of that item, without the reason."""
    item = Item.objects.filter(name=name).first()
    return {
        ByName: {"pk": name},
        ByNameAndKey: {"pk": item and item.pk, "name": name},
        ByShelf: {"pk": name},
        Coded: {"pk": f"code-{name}"},
        FirstFew: {"pk": name},
    }[view]


VIEWS = [ByName, ByNameAndKey, ByShelf, Coded, FirstFew]


def resumed(processes, view, write, size=3, then=3):
    """Return the events of a client that held `d`, `c`, `b` and resumes after `write`."""
    processes.write(make_items)
    names = {n: processes.write(lambda n=n: named(view, n)) for n in "abcd"}
    socket = processes.start().connect(routes(view), "/", {})
    _, reply = socket.ask("subscribe", request_id="s", window=size, snapshot=True)
    assert len(reply["data"]) == size
    socket.leave()
    processes.write(write)
    process = processes.start()
    socket = process.connect(routes(view), "/", {})
    held = [names[name]["pk"] for name in "dcb"[:size]]
    _, reply = socket.ask(
        "subscribe", request_id="s", window=then, since=reply["position"], held=held
    )
    assert reply["resumed"] is True
    process.settle()
    frames = socket.drain()
    return names, [frame["data"] for frame in frames if frame["action"] == "delete"]


@pytest.mark.parametrize("view", VIEWS)
def test_a_row_that_others_have_pushed_out(processes, view):
    names, gone = resumed(processes, view, lambda: Item.objects.create(name="z", version=9))
    # It is the last row of this slice, which the list still has.
    assert gone == [{**names["b"], "reason": "window"}]


@pytest.mark.parametrize("view", VIEWS)
def test_a_row_that_has_moved_far_behind_the_end(processes, view):
    names, gone = resumed(processes, view, change("c", version=-7))
    is_there = view is not FirstFew
    assert gone == [{**names["c"], "reason": "window"} if is_there else names["c"]]


@pytest.mark.parametrize("view", VIEWS)
def test_rows_that_a_smaller_window_leaves_out(processes, view):
    names, gone = resumed(processes, view, lambda: None, then=1)
    assert gone == [{**names[name], "reason": "window"} for name in "cb"]


@pytest.mark.parametrize("view", VIEWS)
def test_a_row_that_is_gone_has_no_reason(processes, view):
    _, gone = resumed(processes, view, lambda: Item.objects.get(name="c").delete())
    (data,) = gone
    assert "reason" not in data


@pytest.mark.parametrize("view", [ByShelf])
def test_a_row_that_is_hidden_has_no_reason(processes, view):
    names, gone = resumed(processes, view, change("c", name="hidden"))
    assert gone == [names["c"]]


def test_a_name_that_no_row_ever_had(processes):
    processes.write(make_items)
    process = processes.start()
    socket = process.connect(routes(ByName), "/", {})
    _, reply = socket.ask("subscribe", request_id="s", window=2, snapshot=True)
    odd = ["d", "c", "\0", "ä" * 300, 7, 1.5, 2**70]
    _, reply = socket.ask("subscribe", request_id="s", window=2, since=reply["position"], held=odd)
    process.settle()
    assert [frame["data"] for frame in socket.drain() if frame["action"] == "delete"] == [
        {"pk": name} for name in odd[2:]
    ]


# Keys that a client sees in a form of their own

DAY = date(2024, 2, 1)

KEYS = {
    "days": (keyed_models.Days, [DAY + timedelta(days=n) for n in range(4)], str),
    "decimals": (
        keyed_models.Decimals,
        [Decimal(n) / 2 for n in range(1, 5)],
        lambda n: f"{n:.2f}",
    ),
    "bytes": (
        keyed_models.Bytes,
        [bytes([n]) for n in range(1, 5)],
        lambda key: base64.b64encode(key).decode(),
    ),
}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("is_away", [True, False])
def test_a_key_of_any_kind(processes, name, is_away):
    model, (first, second, third, newest), _ = KEYS[name]
    view = type(
        "Keyed",
        (Open,),
        {
            "queryset": model.objects.order_by("-key"),
            "serializer_class": showing(model, "key", "note"),
        },
    )
    processes.write(lambda: [model.objects.create(key=key) for key in (first, second, third)])
    process = processes.start()
    socket = process.connect(routes(view), "/", {})
    _, reply = socket.ask("subscribe", request_id="s", window=3, snapshot=True)
    held = [row["key"] for row in reply["data"]]
    assert len(held) == 3
    if is_away:
        socket.leave()
        process = processes.start()
        socket = process.connect(routes(view), "/", {})
    processes.write(lambda: model.objects.create(key=newest))
    if is_away:
        socket.ask("subscribe", request_id="s", window=3, since=reply["position"], held=held)
        process.settle()
    else:
        process.look()
    gone = [frame["data"] for frame in socket.drain() if frame["action"] == "delete"]
    assert gone == [{"pk": held[-1], "reason": "window"}]
