"""
Sockets that are told what becomes of rows, from keywords alone.

    ModelSubscribeConsumers.as_routes(
        path="/users", model=User, serializer_kwargs={"fields": ["username", "is_active"]}
    )

    < {"action": "updated", "data": {"is_active": false}}

Each socket is one subscription of the live half to the viewset underneath; only its words differ.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import ValidationError
from django.http import Http404
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.relations import PrimaryKeyRelatedField
from rest_framework.request import Request
from rest_framework.response import Response

from rest_channels.consumers.deliveries import Delivery
from rest_channels.consumers.models import ModelConsumers, ModelLane, ModelStream
from rest_channels.exchange import Exchange
from rest_channels.live.audiences import Audience, Texts
from rest_channels.live.events import Event
from rest_channels.live.log import Kind
from rest_channels.live.positions import Place
from rest_channels.live.subscriptions import Subscription
from rest_channels.live.topics import Options, Topic
from rest_channels.mixins import SubscriptionMixin
from rest_channels.protocol import CloseCode, Frame, Reply
from rest_channels.protocol import Event as EventMessage
from rest_channels.response import rendered
from rest_channels.streams import SUBSCRIPTIONS

if TYPE_CHECKING:
    from rest_channels.outbox import Wire

_WORDS: Final[dict[str, str]] = {
    Kind.CREATE: "created",
    Kind.UPDATE: "updated",
    Kind.DELETE: "deleted",
}


class Announcements(Subscription):
    """
    A subscription whose events are `{"action": ..., "data": ...}`, with positions where the client
    `asked` for it. Whatever ends it ends the socket, for silence would look like no change.
    """

    # An update may tell only what was saved.
    merges = False

    def __init__(
        self, topic: Topic, options: Options, frame: Frame, wire: Wire, lane: SubscriptionLane
    ) -> None:
        super().__init__(topic, options, frame, wire)
        self._lane = lane
        self._asked = frame is not lane.own_frame

    @classmethod
    def texts_of(
        cls, audience: Audience, events: Sequence[Event], texts: Texts
    ) -> list[str | None]:
        told = super().texts_of(audience, events, texts)
        if any(event.fields is not None for event in events):
            columns = _columns(audience)
            told = [
                text if event.fields is None else _saved(audience, texts[event.key], event, columns)
                for event, text in zip(events, told, strict=True)
            ]
        return told

    @staticmethod
    def shared(message: EventMessage) -> str:
        word = _WORDS.get(message.action, message.action)
        return f'{{"action": "{word}", "data": {message.data}'

    def _own(self, previous: str) -> str:
        if not self._asked:
            return "}"
        return f', "position": "{self.last}", "previous": "{previous}"}}'

    def acknowledge(self, place: Place | None, *, is_resumed: bool, data: str) -> None:
        super().acknowledge(place, is_resumed=is_resumed, data=data)
        self._lane.on_acknowledged(self)

    def _answer(self, reply: Reply) -> None:
        if self._asked:
            super()._answer(reply)
        self.settled.set()

    def sync(self, place: Place) -> None:
        if self._asked:
            super().sync(place)

    def _revoke(self, reply: Reply) -> None:
        if not self.is_over:
            self.end()
            self._lane.revoke(reply)


def _columns(audience: Audience) -> dict[str, frozenset[str]]:
    """
    The names of the serializer's fields that show nothing but a column of the row's own, each
    with the names by which a `save` may say so. What others show may have changed with any save.
    """
    evaluation = audience.evaluation
    serializer = evaluation.run(evaluation.view.get_serializer)
    columns: dict[str, Any] = {}
    for column in audience.model._meta.concrete_fields:
        columns[column.name] = columns[column.attname] = column
    found = {}
    for name, field in serializer.fields.items():
        column = columns.get(field.source)
        if column is not None and not _shows_others(field, column):
            found[name] = frozenset({column.name, column.attname})
    return found


def _shows_others(field: Any, column: Any) -> bool:
    """Whether `field` may show columns of the row that `column` refers to."""
    return (
        column.is_relation
        and field.source != column.attname
        and not isinstance(field, PrimaryKeyRelatedField)
    )


def _saved(
    audience: Audience, text: str, event: Event, columns: Mapping[str, Collection[str]]
) -> str | None:
    """What of a row's text `event` is about; None where it is about nothing that is shown."""
    data = json.loads(text)
    key = audience.model._meta.pk
    assert event.fields is not None
    kept = {
        name: value
        for name, value in data.items()
        if name not in columns
        or key.name in columns[name]
        or not event.fields.isdisjoint(columns[name])
    }
    if all(key.name in columns.get(name, ()) for name in kept):
        # Which row it is is no news.
        return None
    message = EventMessage(event.kind, 200, rendered(audience.evaluation.view, kept))
    return Announcements.shared(message)


class SubscriptionLane(ModelLane):
    """One socket and its one subscription, which begins before the socket opens."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # By a name that no client gives another.
        self.own_frame = Frame(_subscribes_by(self.stream), request_id=self.id)
        self._subscription: Announcements | None = None

    async def _serve_connect(self, connecting: Delivery) -> bool:
        if not await super()._serve_connect(connecting):
            return False
        exchange = Exchange(self.stream.viewsets, self.own_frame, self.handshake)
        await exchange.reply()
        if exchange.subscribes is not None:
            await self._subscribe(exchange)
        return not self._is_silent

    async def _answer(self, exchange: Exchange, reply: Reply) -> None:
        if exchange.subscribes is None:
            await super()._answer(exchange, reply)
            return
        await self._subscribe(exchange)
        if self._is_silent:
            self.close(CloseCode.NOT_ALLOWED)

    async def _subscribe(self, exchange: Exchange) -> None:
        assert exchange.subscribes is not None
        subscription = Announcements(*exchange.subscribes, exchange.frame, self.wire, self)
        try:
            await self.memberships.add(subscription)
        except asyncio.CancelledError:
            self.memberships.discard(subscription)
            raise

    def on_acknowledged(self, subscription: Announcements) -> None:
        """It takes over from the one before, which has told everything up to here."""
        before, self._subscription = self._subscription, subscription
        if before is not None:
            self.memberships.discard(before)

    @property
    def _is_silent(self) -> bool:
        return self._subscription is None or self._subscription.is_over

    async def _end(self, code: int) -> None:
        self._unsubscribe()
        await super()._end(code)

    def abandon(self) -> None:
        super().abandon()
        self._unsubscribe()

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self.memberships.discard(self._subscription)


def _subscribes_by(stream: ModelStream) -> str:
    """The action that a viewset of rows, or of one row, is subscribed to by."""
    [name] = SUBSCRIPTIONS.keys() & stream.viewsets.actions.keys()
    return name


class ModelSubscribeConsumers(ModelConsumers):
    """Tells each socket what becomes of all rows. `list` is answered as well."""

    bases = (ListModelMixin,)
    lane_class = SubscriptionLane


class _AwaitedRow(RetrieveModelMixin, SubscriptionMixin):
    def subscribe_instance(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Subscribe to what `retrieve` shows, or will."""
        response = self._wanted(request, is_row=True)
        try:
            self.review_row(request)
        except (TypeError, ValueError, ValidationError):
            # No row will ever have such a key.
            raise Http404 from None
        return response


class ObjectSubscribeConsumers(ModelConsumers):
    """
    Tells each socket what becomes of the row whose key the path has, which need not be there yet.
    `retrieve` is answered as well.
    """

    bases = (_AwaitedRow,)
    lane_class = SubscriptionLane
