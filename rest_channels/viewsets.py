"""
Viewsets that answer over a websocket.

    class MessageViewSet(ModelConsumerViewSet):
        queryset = Message.objects.all()
        serializer_class = MessageSerializer

    router.register("messages", MessageViewSet)  # with a router, or
    URLRouter(MessageViewSet.as_routes("messages", pagination_class=None))  # by themselves

They are DRF's own viewsets and serve HTTP as well. Other DRF viewsets need no change: the routers
put `ConsumerViewSetMixin` in front of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponseBase
from django.urls import URLPattern
from django.urls.resolvers import RegexPattern, RoutePattern
from rest_framework import routers
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated, PermissionDenied
from rest_framework.generics import GenericAPIView
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import (
    GenericViewSet,
    ModelViewSet,
    ReadOnlyModelViewSet,
    ViewSetMixin,
)

from rest_channels.contrib.dcrf.permission_adapter import (
    as_drf_permission,
    can_connect,
    with_drf_operators,
)
from rest_channels.live.visibility.request_tracking import (
    RunRequest,
    WatchedMessageRequest,
    WatchedRequest,
    run_body,
    untracked,
    watch,
)
from rest_channels.mixins import SubscriptionMixin
from rest_channels.protocol import MISSING
from rest_channels.settings import socket_settings
from rest_channels.sockets.dispatch import is_unfinished
from rest_channels.sockets.field_cache import lend_fields
from rest_channels.sockets.idempotency import KeyedRequest
from rest_channels.sockets.request import FrameRequest, MessageRequest
from rest_channels.sockets.streams import Stream

if TYPE_CHECKING:
    from rest_framework.views import APIView as _APIView
else:
    _APIView = object


class ConsumerViewSetMixin(_APIView):
    """
    A mixin with which a DRF viewset takes a frame as a request. Put it before all other bases.

    `max_in_flight` is the number of frames of one socket that this viewset works on at a time. At
    1, the default, replies come in the order of the frames; above 1, as they are ready.
    """

    max_in_flight: int = 1
    permission_classes: Any

    @classmethod
    def as_routes(
        cls,
        path: str = "",
        basename: str | None = None,
        *,
        router: routers.SimpleRouter | None = None,
        **initkwargs: Any,
    ) -> list[URLPattern]:
        """
        Return the sockets of this viewset, for Channels' `URLRouter`.

        They are the collection at `path`, and the row below it with its lookup bound.

        `initkwargs` replace attributes of the class for these routes alone, as with DRF's
        `as_view`; a name that is not an attribute raises TypeError. `basename` names the URLs for
        `reverse()`; the model's name is the default. `router` determines the style of the URLs; the
        default is DRF's `SimpleRouter()`.
        """
        router = routers.SimpleRouter() if router is None else router
        viewset = configured(cls, initkwargs, {*_SET_BY_DRF, *cls.http_method_names})
        basename = router.get_default_basename(viewset) if basename is None else basename
        stream = Stream(viewset, path, basename, router, getattr(router, "namespace", None))
        has_rows = any(endpoint.is_detail for endpoint in stream.endpoints)
        return [
            _route(stream, router, is_row=is_row)
            for is_row in ([False, True] if has_rows else [False])
        ]

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """Return DRF's request; over a socket, with the frame's data as if parsed already."""
        drf_request = super().initialize_request(request, *args, **kwargs)
        if isinstance(request, MessageRequest):
            request.note_view(self)
            if request.call.refusal is not None:
                self.action = request.call.refused_action
            elif request.call.seen_action is not None:
                self.action = request.call.seen_action
            if type(drf_request) is Request:
                drf_request = _own(drf_request, request)
            _give_data(drf_request, request)
        return drf_request

    def perform_authentication(self, request: Request) -> None:
        """Authenticate as DRF does. From then on, reads count as reads of a review."""
        super().perform_authentication(request)
        if isinstance(request, WatchedRequest):
            watch(request)

    def check_throttles(self, request: Request) -> None:
        """
        Check throttles as DRF does, once for each frame.

        A review counts for none, because the client did not ask for it.
        """
        http_request = request._request
        # Only the first run of a watch checks them, so what they read decides no later answer.
        with untracked(request):
            if not (
                isinstance(http_request, MessageRequest)
                and (http_request.call.is_review or http_request.is_again)
            ):
                super().check_throttles(request)

    def get_permissions(self) -> list[Any]:
        """Return DRF's permissions, and adapters of djangochannelsrestframework's."""
        usable = [with_drf_operators(permission) for permission in self.permission_classes]
        if usable != list(self.permission_classes):
            self.permission_classes = usable
        return [as_drf_permission(permission) for permission in super().get_permissions()]

    def check_permissions(self, request: Request) -> None:
        """
        Check permissions as DRF does, and DCRF's for the socket once for each action and user.

        Presenting credentials needs no permission.
        """
        if _is_authentication(request):
            return
        super().check_permissions(request)
        http_request = request._request
        if isinstance(http_request, MessageRequest) and not self._may_connect(request):
            raise PermissionDenied

    def _may_connect(self, request: Request) -> bool:
        if isinstance(request, WatchedRequest):
            # Asked each time, because what the check reads counts.
            return all(can_connect(p, request, self) for p in self.get_permissions())
        verdicts = request._request.verdicts
        key = (type(self), self.action, getattr(request.user, "pk", None))
        if key not in verdicts:
            verdicts[key] = all(can_connect(p, request, self) for p in self.get_permissions())
        verdict: bool = verdicts[key]
        return verdict

    def authenticate_socket(self, request: Request) -> Response:
        """
        Answer the connection's action `authenticate` once an authentication class accepted it.

        Raises `NotAuthenticated` if none did.
        """
        if request.successful_authenticator is None:
            raise NotAuthenticated
        return Response()

    def handle_exception(self, exc: Exception) -> HttpResponseBase:
        """Handle an exception as DRF does, and note credentials that were refused."""
        http_request = getattr(self.request, "_request", None)
        if isinstance(exc, AuthenticationFailed) and isinstance(http_request, MessageRequest):
            http_request.note_failed_authentication()
        return super().handle_exception(exc)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Run DRF's checks, then refuse an unknown action, so that 401 comes before 405."""
        http_request = request._request
        refusal = http_request.call.refusal if isinstance(http_request, MessageRequest) else None
        try:
            super().initial(request, *args, **kwargs)
        except KeyError:
            # A permission asked `view.kwargs` for a lookup that is missing.
            if refusal is None:
                raise
        if refusal is not None:
            raise refusal()
        if isinstance(http_request, KeyedRequest):
            self._guard_action(http_request, http_request.attempt.run)
        elif isinstance(http_request, RunRequest):
            self._guard_action(http_request, partial(run_body, http_request))

    def _guard_action(self, http_request: HttpRequest, run: Callable[..., Any]) -> None:
        """Let DRF call `run` with this view and the action in place of the action."""
        verb = (http_request.method or "").lower()
        action = getattr(self, verb, None)
        if action is not None:
            # As DRF's as_view() sets the action; its dispatch() looks it up there.
            self.__dict__[verb] = partial(run, self, action)

    def finalize_response(
        self, request: Request, response: HttpResponseBase, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        """
        Finish a response as DRF does; let a coroutine or generator pass, whose response follows.
        """
        if is_unfinished(response) and isinstance(request._request, MessageRequest):
            return response
        return super().finalize_response(request, response, *args, **kwargs)


class GenericConsumerViewSetMixin(ConsumerViewSetMixin):
    """A `ConsumerViewSetMixin` for viewsets that have serializers."""

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        """Return DRF's serializer, with copied fields if DRF would build the same ones again."""
        serializer = super().get_serializer(*args, **kwargs)
        if socket_settings.SHORT_CUTS:
            lend_fields(serializer)
        return serializer


class ConsumerViewSet(GenericConsumerViewSetMixin, SubscriptionMixin, GenericViewSet):
    """
    DRF's `GenericViewSet` over a websocket, without actions of its own.

    With DRF's `ListModelMixin` or `RetrieveModelMixin`, clients can subscribe to it as well.
    """


class ModelConsumerViewSet(GenericConsumerViewSetMixin, ModelViewSet, SubscriptionMixin):
    """DRF's `ModelViewSet` over a websocket, with subscriptions to `list` and `retrieve`."""


class ReadOnlyModelConsumerViewSet(
    GenericConsumerViewSetMixin, ReadOnlyModelViewSet, SubscriptionMixin
):
    """
    DRF's `ReadOnlyModelViewSet` over a websocket, with subscriptions to `list` and `retrieve`.
    """


def as_consumer(viewset: type[ViewSetMixin]) -> type[ConsumerViewSetMixin]:
    """Return `viewset` itself if it can take frames, else a subclass that can."""
    if issubclass(viewset, ConsumerViewSetMixin):
        return viewset
    bases: tuple[Any, ...] = (ConsumerViewSetMixin, viewset)
    if issubclass(viewset, GenericAPIView):
        # Last, so that a viewset's own `subscribe` takes precedence.
        bases = (GenericConsumerViewSetMixin, viewset, SubscriptionMixin)
    # The mixin's own attribute precedes the viewset's and would hide it.
    in_flight = getattr(viewset, "max_in_flight", ConsumerViewSetMixin.max_in_flight)
    own: type[ConsumerViewSetMixin] = subclass(viewset, bases, {"max_in_flight": in_flight})
    return own


# DRF's `as_view()` sets them for each view, and leaves the names on the class.
_SET_BY_DRF = {"name", "description", "suffix", "detail", "basename"}


def _route(stream: Stream, router: routers.SimpleRouter, *, is_row: bool) -> URLPattern:
    route = next(
        (r for r in router.routes if isinstance(r, routers.Route) and r.detail is is_row), None
    )
    if route is None:
        raise ImproperlyConfigured(
            f"{type(router).__name__}.routes has no Route with detail={is_row}: a socket takes its "
            "path from there."
        )
    url = route.url.format(
        prefix=stream.prefix,
        lookup=router.get_lookup_regex(stream.viewset),
        trailing_slash=router.trailing_slash,
    )
    is_regex = url.startswith("^")
    if not stream.prefix:
        url = "^" + url[1:].lstrip("/") if is_regex else url.lstrip("/")
    name = route.name.format(basename=stream.basename)
    pattern = (RegexPattern if is_regex else RoutePattern)(url, name=name, is_endpoint=True)
    application = socket_settings.CONNECTION_CLASS.as_asgi(
        stream=stream, pattern=pattern, is_row=is_row
    )
    return URLPattern(pattern, application, name=name)


def _is_authentication(request: Request) -> bool:
    http_request = request._request
    return isinstance(http_request, MessageRequest) and http_request.call.is_authentication


def _own(drf_request: Request, request: MessageRequest) -> FrameRequest:
    """Return a request of our own class in place of DRF's `drf_request`."""
    if not isinstance(request, WatchedMessageRequest):
        return FrameRequest.of(drf_request)
    watched = WatchedRequest.of(drf_request)
    # If a view authenticates in its own way, all that it reads counts from here on.
    watch(watched)
    return watched


def _give_data(drf_request: Request, request: MessageRequest) -> None:
    if request.frame.data is MISSING:
        return
    parser = drf_request.negotiator.select_parser(drf_request, drf_request.parsers)
    if type(parser) is JSONParser and isinstance(drf_request, FrameRequest):
        drf_request.take(request.frame.data)
    else:
        # For a parser of the project's own (for example one that changes the case of names), a
        # request class of its own, or a view without a parser for JSON, which DRF answers with 415.
        request.fill_stream()


def configured(cls: Any, initkwargs: dict[str, Any], reserved: Collection[str] = ()) -> Any:
    """
    Return a subclass of `cls` with `initkwargs` as attributes; `cls` itself without any.

    Raises TypeError for a name that is not configuration of the class: unknown, a method, or
    `reserved`. The message lists the valid names.
    """
    known = _configurable(cls) - set(reserved)
    unknown = sorted(initkwargs.keys() - known)
    if unknown:
        raise TypeError(
            f"{cls.__name__}.as_routes() got unknown keywords: {', '.join(unknown)}. "
            f"It takes {', '.join(sorted(known))}."
        )
    return subclass(cls, (cls,), initkwargs) if initkwargs else cls


def subclass(cls: type, bases: tuple[type, ...], attributes: dict[str, Any]) -> Any:
    """Return a class of these `bases` with the name of `cls`, which metadata and messages show."""
    own = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(cls.__name__, bases, {**own, **attributes})


def _configurable(cls: Any) -> set[str]:
    """Return the attributes that are configuration: public ones except methods and properties."""
    return {
        name
        for name, value in inspect.getmembers_static(cls)
        if not name.startswith("_")
        and not inspect.isroutine(value)
        and not isinstance(value, (classmethod, staticmethod, property))
    }
