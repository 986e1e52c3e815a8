"""
Subscriptions as actions of a viewset: a list, or a retrieve, that goes on.

A viewset's own action may subscribe as well:

    @action(detail=False)
    def follow(self, request):
        return self.subscribe(request)
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import QuerySet
from django.db.models.query import ModelIterable
from rest_framework import status
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.generics import GenericAPIView
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from rest_channels.live import log
from rest_channels.live.capture import is_captured
from rest_channels.live.topics import Subscribe
from rest_channels.request import MessageRequest


class SubscriptionMixin(GenericAPIView):
    """
    `subscribe` and `subscribe_instance`, for viewsets that list or retrieve a queryset.

    Permissions, `get_queryset`, filter backends and serializer decide who sees what, as for
    `list` and `retrieve`; while the subscription lasts, they are asked again.

    `live` is None where subscriptions are offered if `list`, `retrieve` and `get_object` are
    DRF's own. False turns them off. True says that what those of this viewset show is what
    `get_queryset` and the filter backends give.
    """

    live: bool | None = None

    @classmethod
    def subscriptions(cls) -> list[str]:
        """Which of the subscription actions this viewset offers."""
        viewset: Any = cls
        lists = getattr(cls, "list", None)
        retrieves = getattr(cls, "retrieve", None)
        is_plain = {
            "subscribe": lists is ListModelMixin.list,
            "subscribe_instance": retrieves is RetrieveModelMixin.retrieve
            and viewset.get_object is GenericAPIView.get_object,
        }
        there = {"subscribe": lists, "subscribe_instance": retrieves}
        return [
            action
            for action, shown in there.items()
            if shown is not None and (is_plain[action] if cls.live is None else cls.live)
        ]

    def subscribe(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Subscribe to what `list` shows."""
        return self._wanted(request, is_row=False)

    def subscribe_instance(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Subscribe to what `retrieve` shows."""
        response = self._wanted(request, is_row=True)
        self.get_object()
        return response

    def review_collection(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """What a subscription shows now, and by what: for the live half."""
        return self._reviewed(self.live_queryset())

    def review_row(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The same for one row, of which `retrieve` would show no other."""
        name = self.lookup_url_kwarg or self.lookup_field
        return self._reviewed(self.live_queryset().filter(**{self.lookup_field: self.kwargs[name]}))

    def _reviewed(self, queryset: QuerySet) -> Response:
        # The serializer is chosen here, where it is noted what of the request is read for it.
        self.reviewed, self.shown_by = queryset, self.get_serializer_class()
        return Response()

    def live_queryset(self) -> QuerySet:
        """Everything that this request may see, unpaginated."""
        queryset: Any = self.filter_queryset(self.get_queryset())
        if (
            not isinstance(queryset, QuerySet)
            or queryset.query.is_sliced
            or queryset.query.combinator
            or not issubclass(queryset._iterable_class, ModelIterable)
        ):
            raise ImproperlyConfigured(
                f"{type(self).__name__} cannot be subscribed to: get_queryset() and the filter "
                "backends have to give a queryset of model instances, not sliced and no union. "
                "Set live = False to say that it is not meant to be."
            )
        return queryset

    def _wanted(self, request: Request, *, is_row: bool) -> Response:
        message = request._request
        if not isinstance(message, MessageRequest):
            # Over HTTP nothing goes on.
            raise MethodNotAllowed(request.method or "")
        queryset = self.live_queryset()
        alias = queryset._db or router.db_for_write(queryset.model)
        if not (is_captured(queryset.model) and log.is_installed(alias)):
            raise ImproperlyConfigured(
                f"Changes of {queryset.model._meta.label} are not captured: see "
                "REST_CHANNELS['CAPTURE'] and ['CAPTURE_MODELS'], and run "
                f"`manage.py migrate rest_channels --database={alias}`."
            )
        response = Response(status=status.HTTP_201_CREATED)
        response.subscribe = Subscribe.from_keys(message.frame.rest, alias, is_row=is_row)
        return response
