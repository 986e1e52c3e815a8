"""
Sockets that receive the changes of rows, configured by keywords alone.

    ModelSubscribeConsumers.as_routes(
        path="/users", model=User, serializer_kwargs={"fields": ["username", "is_active"]}
    )

    < {"action": "updated", "data": {"is_active": false}}

Each socket is one subscription of the live half to the viewset underneath, in another format.
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

from rest_channels.consumers.message_view import MessageExchange
from rest_channels.consumers.model_consumers import ModelConsumers, ModelQueue, ModelStream
from rest_channels.live.delivery.events import Event
from rest_channels.live.delivery.subscription import Subscription
from rest_channels.live.delivery.window_subscription import WindowSubscription
from rest_channels.live.interface import Options, Topic
from rest_channels.live.log.positions import Position
from rest_channels.live.log.store import Kind
from rest_channels.live.visibility.audiences import Audience, Texts
from rest_channels.live.visibility.evaluation import Evaluation
from rest_channels.mixins import SubscriptionMixin
from rest_channels.protocol import CloseCode, Frame, Reply
from rest_channels.protocol import Event as EventMessage
from rest_channels.sockets.dispatch import Exchange
from rest_channels.sockets.endpoints import SUBSCRIPTIONS
from rest_channels.sockets.queues import Turn
from rest_channels.sockets.response import rendered

if TYPE_CHECKING:
    from rest_channels.sockets.outbox import StreamWriter

_WORDS: Final[dict[str, str]] = {
    Kind.CREATE: "created",
    Kind.UPDATE: "updated",
    Kind.DELETE: "deleted",
}


class Announcements(Subscription):
    """
    A subscription whose events are `{"action": ..., "data": ...}`.

    They have positions if the client `asked` for it. The end of the subscription closes the socket,
    because silence would look like no change.
    """

    # An update may contain only the saved fields.
    merges = False

    def __init__(
        self,
        topic: Topic,
        options: Options,
        frame: Frame,
        wire: StreamWriter,
        queue: SubscriptionQueue,
    ) -> None:
        super().__init__(topic, options, frame, wire)
        self._queue = queue
        self._asked = frame is not queue.own_frame

    @classmethod
    def texts_of(
        cls, audience: Audience, events: Sequence[Event], texts: Texts, evaluation: Evaluation
    ) -> list[str | None]:
        told = super().texts_of(audience, events, texts, evaluation)
        if any(event.fields is not None for event in events):
            columns = _columns(audience, evaluation)
            told = [
                text
                if event.fields is None
                else _saved(audience, texts[event.key], event, columns, evaluation)
                for event, text in zip(events, told, strict=True)
            ]
        return told

    @staticmethod
    def shared(message: EventMessage) -> str:
        word = _WORDS.get(message.action, message.action)
        place = f', "after": {message.after}' if message.after else ""
        return f'{{"action": "{word}", "data": {message.data}{place}'

    def _own(self, previous: str) -> str:
        if not self._asked:
            return "}"
        return f', "position": "{self.last}", "previous": "{previous}"}}'

    def acknowledge(self, place: Position | None, *, is_resumed: bool, data: str) -> None:
        super().acknowledge(place, is_resumed=is_resumed, data=data)
        self._queue.on_acknowledged(self)

    def _answer(self, reply: Reply) -> None:
        if self._asked:
            super()._answer(reply)
        self.settled.set()

    def sync(self, place: Position) -> None:
        if self._asked:
            super().sync(place)

    @property
    def is_kept_alive(self) -> bool:  # type: ignore[override]  # a property for an attribute
        """Whether the client uses positions, and so our protocol."""
        return self._asked

    def _revoke(self, reply: Reply) -> None:
        if not self.is_over:
            self.end()
            self._queue.revoke(reply)


class OrderedAnnouncements(WindowSubscription, Announcements):
    """Such a subscription to rows in an order. Its updates contain whole rows."""


def _columns(audience: Audience, evaluation: Evaluation) -> dict[str, frozenset[str]]:
    """
    Return the serializer's fields that show only a column of the row's own.

    Each has the names by which a `save` may refer to it. Other fields may change with any save.
    """
    serializer = evaluation.use(evaluation.view.get_serializer)
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
    """Return whether `field` may show columns of the row that `column` refers to."""
    return (
        column.is_relation
        and field.source != column.attname
        and not isinstance(field, PrimaryKeyRelatedField)
    )


def _saved(
    audience: Audience,
    text: str,
    event: Event,
    columns: Mapping[str, Collection[str]],
    evaluation: Evaluation,
) -> str | None:
    """Return the part of a row's text that `event` is about; None if no such part is shown."""
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
        # The id of the row is not a change.
        return None
    shown = evaluation.use(rendered, evaluation.view, kept)
    message = EventMessage(event.kind, 200, shown)
    return Announcements.shared(message)


class SubscriptionQueue(ModelQueue):
    """One socket and its one subscription, which begins before the socket opens."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # Under a name that no client uses.
        self.own_frame = Frame(_subscribes_by(self.stream), request_id=self.id)
        self._subscription: Announcements | None = None

    async def _serve_connect(self, connecting: MessageExchange) -> bool:
        if not await super()._serve_connect(connecting):
            return False
        exchange = Exchange(self.stream.viewsets, self.own_frame, self.handshake_underneath)
        reply = await exchange.reply()
        if reply is not None:
            self.note_refusal(reply)
        if exchange.subscribes is not None:
            await self._subscribe(exchange, {})
        return not self._is_silent

    async def _answer(self, exchange: Exchange, reply: Reply, turn: Turn) -> None:
        await super()._answer(exchange, reply, turn)
        if exchange.subscribes is not None and self._is_silent:
            self.close(CloseCode.NOT_ALLOWED)

    async def _subscribe(self, exchange: Exchange, extra: Mapping[str, str]) -> None:
        assert exchange.subscribes is not None
        topic, options = exchange.subscribes
        kind = Announcements if options.window is None else OrderedAnnouncements
        subscription = kind(topic, options, exchange.frame, self.wire, self)
        subscription.extra = extra
        exchange.settled = subscription.settled
        try:
            await self.memberships.add(subscription)
        except asyncio.CancelledError:
            self.memberships.discard(subscription)
            raise

    def on_acknowledged(self, subscription: Announcements) -> None:
        """Take over from the subscription before, which has delivered everything up to here."""
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
    """Return the action that subscribes to a viewset of rows, or of one row."""
    [name] = SUBSCRIPTIONS.keys() & stream.viewsets.actions.keys()
    return name


class ModelSubscribeConsumers(ModelConsumers):
    """A socket that receives the changes of all rows. It answers `list` as well."""

    bases = (ListModelMixin,)
    queue_class = SubscriptionQueue


class _AwaitedRow(RetrieveModelMixin, SubscriptionMixin):
    def subscribe_instance(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Subscribe to what `retrieve` shows now or later."""
        response = self._wanted(request, is_row=True, awaits=True)
        try:
            self.review_row(request)
        except (TypeError, ValueError, ValidationError):
            # No row will ever have such a key.
            raise Http404 from None
        return response


class ObjectSubscribeConsumers(ModelConsumers):
    """
    A socket that receives the changes of the row whose key is in the path.

    The row need not exist yet. The socket answers `retrieve` as well.
    """

    bases = (_AwaitedRow,)
    queue_class = SubscriptionQueue
