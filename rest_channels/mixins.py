"""
Subscriptions as actions of a viewset: a list, or a retrieve, that stays up to date.

A viewset's own action may subscribe as well:

    @action(detail=False)
    def follow(self, request):
        return self.subscribe(request)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.db.models import QuerySet
from django.db.models.query import ModelIterable
from rest_framework.exceptions import MethodNotAllowed, ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from rest_channels.live.capture.writes import is_captured
from rest_channels.live.catalogue import is_blind
from rest_channels.live.interface import Shown, Subscribe, SubscribeResponse
from rest_channels.live.keys import is_unnamed
from rest_channels.live.log import store
from rest_channels.live.log_database import log_of
from rest_channels.live.topics import CannotSubscribe, options_of
from rest_channels.live.visibility import declarations
from rest_channels.live.visibility.request_tracking import tell_shown
from rest_channels.live.visibility.total_order import is_random, totally_ordered
from rest_channels.sockets.request import MessageRequest

_NO_QUERYSET: Final = (
    "get_queryset() and the filter backends must return a queryset, not a list or raw(): use "
    "filter(), annotate() or RawSQL, or 'watch' for a list that is read again."
)
_NO_INSTANCES: Final = (
    "get_queryset() and the filter backends must return model instances: use annotate() and only() "
    "in place of values() and values_list(), or 'watch' for a list that is read again."
)
_UNSEEN: Final = (
    "The rows must come from tables whose writes are captured: set live_tables or live_seconds on "
    "the viewset, or live = False."
)
_NO_ROW: Final = (
    "A single row must come from a queryset that can be filtered: remove the slice or union() for "
    "'subscribe_instance', use 'subscribe' for the collection, or 'watch' for the row."
)
_NO_LIST: Final = "One row has no order: leave the key out, or use 'subscribe' for the collection."
_NO_WINDOW: Final = (
    "The rows of 'ordered' and 'window' must come in one order that a further row cannot change, "
    "so not from union() and the like or order_by('?'): use 'watch' for a list that is read "
    "again, or 'subscribe' without these keys."
)
_NO_KEY: Final = (
    "The rows must have a primary key of one column, and not of JSON, so that clients can name "
    "them: change the model's key, or use 'watch' for a list that is read again."
)


class SubscriptionMixin(GenericAPIView):
    """
    `subscribe` and `subscribe_instance`, for viewsets that list or retrieve a queryset.

    Permissions, `get_queryset`, filter backends and serializer decide what each user sees, as for
    `list` and `retrieve`. They are asked again while the subscription lasts.

    `live` is None to offer subscriptions if `list`, `retrieve` and `get_object` are DRF's own,
    False to turn them off, True to declare that this viewset's own `list` and `retrieve` show what
    `get_queryset` and the filter backends return.
    """

    live: bool | None = None
    #: Models, "app_label.Model" or tables whose writes may change what a row shows, in addition to
    #: the tables that are seen to be read.
    live_tables: Sequence[Any] = ()
    #: Seconds after which rows are read again, for data that change without a write; None for
    #: never.
    live_seconds: float | None = None

    #: True declares that all users see the same text of a row if the same SQL selects it, so one
    #: text is rendered for all. Needed only if this package cannot prove it.
    shared: bool = False

    @classmethod
    def subscriptions(cls) -> list[str]:
        """
        Return the subscription actions that this viewset offers.

        Raises `ImproperlyConfigured` for a model with a composite primary key, whose rows clients
        cannot name.
        """
        if cls.live is False:
            return []
        viewset: Any = cls
        lists = getattr(cls, "list", None)
        retrieves = getattr(cls, "retrieve", None)
        is_plain = {
            "subscribe": lists is ListModelMixin.list,
            "subscribe_instance": retrieves is RetrieveModelMixin.retrieve
            and viewset.get_object is GenericAPIView.get_object,
        }
        there = {"subscribe": lists, "subscribe_instance": retrieves}
        offered = [
            action
            for action, shown in there.items()
            if shown is not None and (is_plain[action] or cls.live)
        ]
        model = _model_of(viewset)
        if offered and model is not None and is_unnamed(model):
            raise ImproperlyConfigured(
                f"{cls.__name__} cannot be subscribed to: {model._meta.label} must have a primary "
                "key of one column, and not of JSON. Change its key, or set live = False on "
                f"{cls.__name__}."
            )
        return offered

    def subscribe(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Subscribe to what `list` shows."""
        return self._wanted(request, is_row=False)

    def subscribe_instance(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Subscribe to what `retrieve` shows."""
        response = self._wanted(request, is_row=True)
        self.get_object()
        return response

    def review_collection(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return what a subscription shows now, and what it depends on; for the live half."""
        return self._shown(self.live_queryset())

    def review_row(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return the same for one row, the only row that `retrieve` would show."""
        name = self.lookup_url_kwarg or self.lookup_field
        return self._shown(self.live_queryset().filter(**{self.lookup_field: self.kwargs[name]}))

    def _shown(self, queryset: QuerySet) -> Response:
        tell_shown(self.request, Shown(self, queryset, self._fixed_serializer_class()))
        return Response()

    def _fixed_serializer_class(self) -> Any:
        """
        Choose the serializer class of this instance, for good.

        Reads of the request that decide it are recorded here. Rendering must not choose again,
        because that would count as another read.
        """
        chosen = self.get_serializer_class()
        # On the instance, because a viewset's own method takes precedence over a mixin's.
        self.__dict__["get_serializer_class"] = lambda: chosen
        return chosen

    def filter_queryset(self, queryset: Any) -> Any:
        """
        Return the rows that match the request, as DRF does.

        A list without pages, over a socket, has a total order, which is that of its windows.
        """
        rows = super().filter_queryset(queryset)
        is_list = getattr(self, "action", None) == "list" and self.paginator is None
        if is_list and isinstance(self.request._request, MessageRequest):
            return _in_total_order(rows)
        return rows

    def live_queryset(self) -> QuerySet:
        """Return everything that this request may see, unpaginated."""
        queryset: Any = self.filter_queryset(self.get_queryset())
        if not isinstance(queryset, QuerySet):
            raise CannotSubscribe(_NO_QUERYSET)
        if not issubclass(queryset._iterable_class, ModelIterable):
            raise CannotSubscribe(_NO_INSTANCES)
        if is_unnamed(queryset.model):
            raise CannotSubscribe(_NO_KEY)
        return queryset

    def _wanted(self, request: Request, *, is_row: bool, awaits: bool = False) -> Response:
        message = request._request
        if not isinstance(message, MessageRequest):
            # HTTP cannot push.
            raise MethodNotAllowed(request.method or "")
        queryset = self.live_queryset()
        if is_row and (queryset.query.is_sliced or queryset.query.combinator):
            raise CannotSubscribe(_NO_ROW)
        alias = log_of(queryset)
        if not declarations.has_any(self) and is_blind(alias, queryset.model):
            raise CannotSubscribe(_UNSEEN)
        is_followed = is_captured(queryset.model) or declarations.seconds(self) is not None
        if not (is_followed and store.is_installed(alias)):
            raise ImproperlyConfigured(
                f"Changes of {queryset.model._meta.label} are not captured: check "
                "REST_CHANNELS['CAPTURE'] and ['CAPTURE_MODELS'], and run "
                f"`manage.py migrate rest_channels --database={alias}`."
            )
        options = options_of(message.frame.rest, awaits=awaits)
        if options.window is not None:
            self._check_window(message.frame.rest, queryset, is_row=is_row)
        return SubscribeResponse(Subscribe(alias, options, is_row))

    def _check_window(self, keys: Mapping[str, Any], queryset: QuerySet, *, is_row: bool) -> None:
        """Refuse a window of rows that have no order of their own."""
        if is_row:
            named = "ordered" if keys.get("window") is None else "window"
            raise ValidationError({named: [_NO_LIST]})
        if queryset.query.combinator or is_random(queryset):
            raise CannotSubscribe(_NO_WINDOW)


def _in_total_order(rows: Any) -> Any:
    """Return `rows` in a total order if a subscription could follow them."""
    if not isinstance(rows, QuerySet) or not issubclass(rows._iterable_class, ModelIterable):
        return rows
    if is_unnamed(rows.model) or rows.query.combinator or is_random(rows):
        return rows
    return totally_ordered(rows)


def _model_of(viewset: Any) -> Any:
    """Return the model of the viewset's rows, if the class names it."""
    queryset = getattr(viewset, "queryset", None)
    if queryset is not None:
        return queryset.model
    meta = getattr(getattr(viewset, "serializer_class", None), "Meta", None)
    return getattr(meta, "model", None)
