"""
Sockets of a model's rows, configured by keywords alone.

    CRUDConsumers.as_routes(
        path="/rooms", queryset=Room.objects.filter(is_open=True), paginate_by=10
    )

A viewset underneath answers as all viewsets do; docs/protocol.md is its contract.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.core.paginator import Paginator
from rest_framework import mixins, routers, serializers
from rest_framework.pagination import PageNumberPagination

from rest_channels.consumers.base import Routes
from rest_channels.consumers.consumer_streams import (
    CONNECTIONS_OWN,
    ConsumersQueue,
    ConsumersStream,
    Content,
)
from rest_channels.consumers.message_filters import resolved
from rest_channels.consumers.websockets import WebsocketConsumers
from rest_channels.protocol import Frame
from rest_channels.sockets.endpoints import Endpoint
from rest_channels.sockets.keyed_exchange import exchange_of
from rest_channels.sockets.queues import ENDINGS
from rest_channels.sockets.request import Handshake
from rest_channels.sockets.streams import Stream
from rest_channels.viewsets import ConsumerViewSet

if TYPE_CHECKING:
    from rest_channels.sockets.connection import Connection


class ViewsetUnderneath(Stream):
    """A viewset whose collection's URL is the path of its socket."""

    def own_path(self, endpoint: Endpoint, handshake: Handshake, path: str) -> str:
        is_bound = endpoint.lookups <= handshake.kwargs.keys()
        return handshake.mount if is_bound else f"{handshake.mount.removesuffix('/')}/{path}"


class ModelStream(ConsumersStream):
    """Consumers with a viewset underneath, which answers the frames that no handler takes."""

    viewsets: Stream

    def __init__(self, consumers: type[ModelConsumers], prefix: str) -> None:
        super().__init__(consumers, prefix)
        viewset = consumers.get_viewset()
        basename = viewset.queryset.model._meta.object_name.lower()
        self.viewsets = ViewsetUnderneath(viewset, "", basename, routers.SimpleRouter())
        # Not part of its URLs, but it distinguishes the positions of different topics.
        self.viewsets.prefix = prefix

    @property
    def path(self) -> str:
        """The path of its own socket, below the router's mount."""
        consumers: Any = self.consumers
        path: str = consumers.get_path()
        return path

    def may_subscribe(self, payload: Any) -> bool:
        """Return whether the payload subscribes to the viewset underneath, not a handler."""
        return self.viewsets.may_subscribe(payload) and not self.is_handled(payload)

    def is_frame(self, payload: dict[str, Any]) -> bool:
        return True


class ModelQueue(ConsumersQueue):
    """The queue of such a stream, which passes frames to the viewset."""

    stream: ModelStream

    def __init__(self, connection: Connection, stream: ModelStream) -> None:
        super().__init__(connection, stream)
        path = connection.path_of(stream, stream.path)
        self.handshake_underneath = replace(self.handshake, mount=path)

    def take(self, frame: Frame, payload: Any) -> None:
        owned = (*CONNECTIONS_OWN, *ENDINGS, "unwatch")
        own = any(self._is_own(action, frame) for action in owned)
        if self.is_open and self._is_own("watch", frame):
            self._take_watch(frame, self.stream.viewsets, self.handshake_underneath)
        elif self.is_open and not isinstance(frame, Content) and not own:
            self._put(exchange_of(self.stream.viewsets, frame, self.handshake_underneath))
        else:
            super().take(frame, payload)

    def _is_own(self, action: str, frame: Frame) -> bool:
        # The viewset's own `cancel` takes precedence, as on the viewset's own socket.
        return super()._is_own(action, frame) and action not in self.stream.viewsets.actions


class ModelConsumers(WebsocketConsumers):
    """
    The common part of consumers of models. `bases` are the mixins of the viewset underneath.

    The class's own handlers come first; the viewset gets the frames that they do not take.
    `authentication_classes`, `permission_classes` and `throttle_classes` apply to the handshake as
    well as to each frame.
    """

    #: The rows: `queryset`, or all of `model`.
    model: Any = None
    queryset: Any = None
    #: A serializer, or the `Meta` of one made from the model: `{"fields": ["name"]}`.
    serializer_class: Any = None
    serializer_kwargs: Mapping[str, Any] | None = None
    #: Rows of a page; None: `list` returns all of them at once.
    paginate_by: int | None = None
    #: The last page includes up to this many more rows, instead of a page of their own.
    paginate_orphans: int = 0
    #: The field by which a row is looked up, and the name by which path and frames give its value.
    slug_field: str | None = None
    slug_path_kwarg: str | None = None

    #: Whether all users see the same text of a row: see `SubscriptionMixin.shared`.
    shared: bool = False
    #: Tables that subscriptions cannot see: see `SubscriptionMixin`.
    live_tables: Sequence[Any] = ()
    live_seconds: float | None = None

    bases: ClassVar[tuple[type, ...]] = ()

    @classmethod
    def get_routes(cls, prefix: str | None = None) -> Routes:
        if cls.internal:
            raise ImproperlyConfigured(
                f"{cls.__name__} answers in the process of the socket: it must not be internal."
            )
        return super().get_routes(prefix)

    @classmethod
    def get_queryset(cls) -> Any:
        """Return the rows: `queryset`, or all of `model`."""
        if cls.queryset is not None:
            # Unevaluated, so that each message reads the rows again.
            return cls.queryset.all()
        if cls.model is None:
            raise ImproperlyConfigured(
                f"{cls.__name__} has no rows: use {cls.__name__}.as_routes(model=...), or "
                "queryset=..."
            )
        return cls.model._default_manager.all()

    @classmethod
    def get_serializer_class(cls) -> Any:
        """Return `serializer_class`, or a serializer that DRF makes of the model."""
        if cls.serializer_class is not None:
            return cls.serializer_class
        from django.contrib.auth.base_user import AbstractBaseUser  # needs the app registry

        model = cls.get_queryset().model
        if cls.serializer_kwargs is None and issubclass(model, AbstractBaseUser):
            raise ImproperlyConfigured(
                f"{cls.__name__} would show the password hashes of {model.__name__} and let "
                "clients write every field: name the fields, "
                "serializer_kwargs={'fields': ['username']}."
            )
        meta = {"model": model, **(cls.serializer_kwargs or {})}
        if not meta.keys() & {"fields", "exclude"}:
            meta["fields"] = "__all__"
        attributes = {"Meta": type("Meta", (), meta)}
        # Only a configured class has a path.
        words = _words(cls.get_path()) if cls.is_configured() else ""
        name = f"{words}{model.__name__}Serializer"
        return type(name, (serializers.ModelSerializer,), attributes)

    @classmethod
    def get_path(cls) -> str:
        """Return the path of the socket as a regular expression, without its anchors."""
        path: str = resolved(cls.path, cls, cls.table().initkwargs)
        return path.removeprefix("^").removeprefix("/").removesuffix("$")

    @classmethod
    def get_pagination_class(cls) -> Any:
        """Return pages by number, and `last`; None if `paginate_by` is None."""
        if cls.paginate_by is None:
            return None
        pages = partial(Paginator, orphans=cls.paginate_orphans)
        # From Python 3.14 on, a partial becomes a method of the class that has it.
        attributes = {"page_size": cls.paginate_by, "django_paginator_class": staticmethod(pages)}
        return type("Pages", (PageNumberPagination,), attributes)

    @classmethod
    def get_viewset(cls) -> type[ConsumerViewSet]:
        """Return the viewset underneath."""
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
            "shared": cls.shared,
            "live_tables": cls.live_tables,
            "live_seconds": cls.live_seconds,
            "consumers": cls,
        }
        if cls.slug_field is not None or cls.slug_path_kwarg is not None:
            attributes["lookup_field"] = cls.slug_field or "pk"
            attributes["lookup_url_kwarg"] = cls.slug_path_kwarg
            # DRF's pattern stops at a period, to which a path gives no meaning here.
            attributes["lookup_value_regex"] = "[^/]+"
        return type(cls.__name__, (*cls.bases, ConsumerViewSet), attributes)

    stream_class = ModelStream
    queue_class: type[ModelQueue] = ModelQueue


def _words(path: str) -> str:
    """Return the words of a path, joined as in a name of a class: it names schemas apart."""
    literal = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"\1", path)
    return "".join(word.capitalize() for word in re.findall(r"[A-Za-z0-9]+", literal))


class ListConsumers(ModelConsumers):
    """A socket with `list`: the rows, in pages if `paginate_by` is set."""

    bases = (mixins.ListModelMixin,)


class CreateConsumers(ModelConsumers):
    """A socket with `create`."""

    bases = (mixins.CreateModelMixin,)


class ReadOnlyConsumers(ModelConsumers):
    """A socket with `list` and `retrieve`."""

    bases = (mixins.ListModelMixin, mixins.RetrieveModelMixin)


class UpdateConsumers(ModelConsumers):
    """A socket with `update` and `partial_update`."""

    bases = (mixins.UpdateModelMixin,)


class DeleteConsumers(ModelConsumers):
    """A socket with `destroy`, or `delete`."""

    bases = (mixins.DestroyModelMixin,)


class CRUDConsumers(ModelConsumers):
    """A socket with `list`, `retrieve`, `create`, `update`, `partial_update` and `destroy`."""

    bases = (
        mixins.ListModelMixin,
        mixins.RetrieveModelMixin,
        mixins.CreateModelMixin,
        mixins.UpdateModelMixin,
        mixins.DestroyModelMixin,
    )
