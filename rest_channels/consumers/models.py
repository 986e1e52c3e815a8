"""
Sockets of a model's rows, from keywords alone.

    CRUDConsumers.as_routes(
        path="/rooms", queryset=Room.objects.filter(is_open=True), paginate_by=10
    )

Underneath is a viewset, which answers as viewsets do: docs/protocol.md is its contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.core.paginator import Paginator
from rest_framework import mixins, routers, serializers
from rest_framework.pagination import PageNumberPagination

from rest_channels.consumers.base import Routes
from rest_channels.consumers.sockets import (
    CONNECTIONS_OWN,
    ConsumersLane,
    ConsumersStream,
    Content,
)
from rest_channels.consumers.websockets import WebsocketConsumers
from rest_channels.exchange import Exchange
from rest_channels.lanes import ENDINGS
from rest_channels.protocol import Frame
from rest_channels.streams import Stream
from rest_channels.viewsets import ConsumerViewSet


class ModelStream(ConsumersStream):
    """Consumers with a viewset underneath, which has what no handler takes."""

    viewsets: Stream

    def __init__(self, consumers: type[ModelConsumers], prefix: str) -> None:
        super().__init__(consumers, prefix)
        viewset = consumers.get_viewset()
        basename = viewset.queryset.model._meta.object_name.lower()
        self.viewsets = Stream(viewset, "", basename, routers.SimpleRouter())
        # No part of its URLs; positions tell by it one topic from another.
        self.viewsets.prefix = prefix

    def is_frame(self, payload: dict[str, Any]) -> bool:
        return True


class ModelLane(ConsumersLane):
    """The lane of such a stream: frames go to its viewset."""

    stream: ModelStream

    def take(self, frame: Frame, payload: Any) -> None:
        own = any(self._is_own(action, frame) for action in (*CONNECTIONS_OWN, *ENDINGS))
        if self.is_open and not isinstance(frame, Content) and not own:
            self._put(Exchange(self.stream.viewsets, frame, self.handshake))
        else:
            super().take(frame, payload)

    def _is_own(self, action: str, frame: Frame) -> bool:
        # A `cancel` of the viewset's own wins, as it does on the viewset's own socket.
        return super()._is_own(action, frame) and action not in self.stream.viewsets.actions


class ModelConsumers(WebsocketConsumers):
    """
    What consumers of models have in common. `bases` are the mixins of the viewset underneath.

    Handlers of the class's own come first; what they do not take is a frame for the viewset. To
    the handshake `authentication_classes`, `permission_classes` and `throttle_classes` say the
    same as to each frame.
    """

    #: The rows: `queryset`, or all of `model`.
    model: Any = None
    queryset: Any = None
    #: A serializer, or what the `Meta` of one made from the model has: `{"fields": ["name"]}`.
    serializer_class: Any = None
    serializer_kwargs: Mapping[str, Any] | None = None
    #: Rows of a page; None: `list` has all of them in one.
    paginate_by: int | None = None
    #: So many rows at the end do not make a page of their own.
    paginate_orphans: int = 0
    #: The field by which a row is looked up, and the name by which path and frames give its value.
    slug_field: str | None = None
    slug_path_kwarg: str | None = None

    bases: ClassVar[tuple[type, ...]] = ()

    @classmethod
    def get_routes(cls, prefix: str | None = None) -> Routes:
        if cls.internal:
            raise ImproperlyConfigured(
                f"{cls.__name__} answers where the socket is: it cannot be internal."
            )
        return super().get_routes(prefix)

    @classmethod
    def get_queryset(cls) -> Any:
        """The rows: `queryset`, or all of `model`."""
        if cls.queryset is not None:
            # Unread: what one message reads, the next must not be shown.
            return cls.queryset.all()
        if cls.model is None:
            raise ImproperlyConfigured(
                f"{cls.__name__} has no rows: {cls.__name__}.as_routes(model=...), or queryset=..."
            )
        return cls.model._default_manager.all()

    @classmethod
    def get_serializer_class(cls) -> Any:
        """`serializer_class`, or one that DRF makes of the model."""
        if cls.serializer_class is not None:
            return cls.serializer_class
        from django.contrib.auth.base_user import AbstractBaseUser  # needs the app registry

        model = cls.get_queryset().model
        if cls.serializer_kwargs is None and issubclass(model, AbstractBaseUser):
            raise ImproperlyConfigured(
                f"{cls.__name__} would show the passwords' hashes of {model.__name__} and let "
                "clients write whatever is there: name the fields, "
                "serializer_kwargs={'fields': ['username']}."
            )
        meta = {"model": model, **(cls.serializer_kwargs or {})}
        if not meta.keys() & {"fields", "exclude"}:
            meta["fields"] = "__all__"
        attributes = {"Meta": type("Meta", (), meta)}
        return type(f"{model.__name__}Serializer", (serializers.ModelSerializer,), attributes)

    @classmethod
    def get_pagination_class(cls) -> Any:
        """Pages by number, and `last`; None where `paginate_by` is."""
        if cls.paginate_by is None:
            return None
        pages = partial(Paginator, orphans=cls.paginate_orphans)
        attributes = {"page_size": cls.paginate_by, "django_paginator_class": pages}
        return type("Pages", (PageNumberPagination,), attributes)

    @classmethod
    def get_viewset(cls) -> type[ConsumerViewSet]:
        """The viewset underneath."""
        attributes = {
            "__module__": cls.__module__,
            "__doc__": cls.__doc__,
            "queryset": cls.get_queryset(),
            "serializer_class": cls.get_serializer_class(),
            "pagination_class": cls.get_pagination_class(),
            "authentication_classes": cls.authentication_classes,
            "permission_classes": cls.get_permission_classes(),
            "throttle_classes": cls.throttle_classes,
            "max_in_flight": cls.max_in_flight,
            "consumers": cls,
        }
        if cls.slug_field is not None or cls.slug_path_kwarg is not None:
            attributes["lookup_field"] = cls.slug_field or "pk"
            attributes["lookup_url_kwarg"] = cls.slug_path_kwarg
            # Of a path, where DRF's stops at a period, it is no part.
            attributes["lookup_value_regex"] = "[^/]+"
        return type(cls.__name__, (*cls.bases, ConsumerViewSet), attributes)

    stream_class = ModelStream
    lane_class: type[ModelLane] = ModelLane


class ListConsumers(ModelConsumers):
    """`list`: the rows, in pages where `paginate_by` says so."""

    bases = (mixins.ListModelMixin,)


class CreateConsumers(ModelConsumers):
    """`create`."""

    bases = (mixins.CreateModelMixin,)


class ReadOnlyConsumers(ModelConsumers):
    """`list` and `retrieve`."""

    bases = (mixins.ListModelMixin, mixins.RetrieveModelMixin)


class UpdateConsumers(ModelConsumers):
    """`update` and `partial_update`."""

    bases = (mixins.UpdateModelMixin,)


class DeleteConsumers(ModelConsumers):
    """`destroy`, or `delete`."""

    bases = (mixins.DestroyModelMixin,)


class CRUDConsumers(ModelConsumers):
    """`list`, `retrieve`, `create`, `update`, `partial_update`, `destroy`."""

    bases = (
        mixins.ListModelMixin,
        mixins.RetrieveModelMixin,
        mixins.CreateModelMixin,
        mixins.UpdateModelMixin,
        mixins.DestroyModelMixin,
    )
