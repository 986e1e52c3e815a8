"""
Viewsets that answer over a websocket.

    class MessageViewSet(ModelConsumerViewSet):
        queryset = Message.objects.all()
        serializer_class = MessageSerializer

    router.register("messages", MessageViewSet)  # with a router, or
    URLRouter(MessageViewSet.as_routes("messages", pagination_class=None))  # by themselves

They are DRF's own viewsets and serve HTTP as well. DRF viewsets that are not ours need no change:
the routers put `ConsumerViewSetMixin` in front of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponseBase
from django.urls import URLPattern
from django.urls.resolvers import RegexPattern, RoutePattern
from django.utils.datastructures import MultiValueDict
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

from rest_channels.exchange import is_unfinished
from rest_channels.fields import lend_fields
from rest_channels.keywords import configured, subclass
from rest_channels.live.watch import WatchedRequest, watch
from rest_channels.mixins import SubscriptionMixin
from rest_channels.negotiation import remembering
from rest_channels.permissions import as_drf_permission, can_connect, with_drf_operators
from rest_channels.protocol import MISSING
from rest_channels.request import MessageRequest
from rest_channels.settings import socket_settings
from rest_channels.streams import Stream

if TYPE_CHECKING:
    from rest_framework.views import APIView as _APIView
else:
    _APIView = object


class ConsumerViewSetMixin(_APIView):
    """
    What lets a DRF viewset take a frame as a request. Put it before the viewset's other bases.

    `max_in_flight` is how many frames of one socket this viewset works on at a time. At 1, the
    default, replies come in the order of the frames; above, as they are ready.
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
        The sockets of this viewset, for Channels' `URLRouter`: the collection at `path`, and the
        row below it, its lookup bound.

        `initkwargs` replace attributes of the class for these routes alone, as with DRF's
        `as_view`; a name that is none raises TypeError. `basename` names the URLs for
        `reverse()`, and is the model's name where it is left out. `router` lends its style of
        URLs, DRF's `SimpleRouter()` unless given.
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
        """DRF's request, over a socket with the frame's data in it as if parsed already."""
        drf_request = super().initialize_request(request, *args, **kwargs)
        if isinstance(request, MessageRequest):
            request.view = self
            if request.call.refusal is not None:
                self.action = request.call.refused_action
            elif request.call.seen_action is not None:
                self.action = request.call.seen_action
            if request.call.is_review and type(drf_request) is Request:
                # In place: it is DRF's, made by whatever the viewset's bases make of it.
                drf_request.__class__ = WatchedRequest
                # Of a view that authenticates in its own way all counts, from here on.
                watch(drf_request)
            _preset_data(drf_request, request)
        return drf_request

    def perform_authentication(self, request: Request) -> None:
        """DRF's; from then on, it counts what a review reads."""
        super().perform_authentication(request)
        if isinstance(request, WatchedRequest):
            watch(request)

    def check_throttles(self, request: Request) -> None:
        """DRF's check; a review is not asked for by the client."""
        http_request = request._request
        if not (isinstance(http_request, MessageRequest) and http_request.call.is_review):
            super().check_throttles(request)

    def get_content_negotiator(self) -> Any:
        """DRF's negotiator, which remembers what it chose; one of the project's own as it is."""
        return remembering(super().get_content_negotiator())

    def get_permissions(self) -> list[Any]:
        """DRF's permissions; djangochannelsrestframework's are made such."""
        usable = [with_drf_operators(permission) for permission in self.permission_classes]
        if usable != list(self.permission_classes):
            self.permission_classes = usable
        return [as_drf_permission(permission) for permission in super().get_permissions()]

    def check_permissions(self, request: Request) -> None:
        """
        DRF's check, and what DCRF's permissions say of the socket, once for each action and user;
        credentials may be shown by anybody.
        """
        if _is_authentication(request):
            return
        super().check_permissions(request)
        http_request = request._request
        if isinstance(http_request, MessageRequest) and not self._may_connect(request):
            raise PermissionDenied

    def _may_connect(self, request: Request) -> bool:
        if isinstance(request, WatchedRequest):
            # Asked each time, for what is read for it counts.
            return all(can_connect(p, request, self) for p in self.get_permissions())
        verdicts = request._request.verdicts
        key = (type(self), self.action, getattr(request.user, "pk", None))
        if key not in verdicts:
            verdicts[key] = all(can_connect(p, request, self) for p in self.get_permissions())
        return verdicts[key]

    def authenticate_socket(self, request: Request) -> Response:
        """
        The connection's action `authenticate`: an authentication class of this viewset has
        taken the credentials, or it is 401.
        """
        if request.successful_authenticator is None:
            raise NotAuthenticated
        return Response()

    def handle_exception(self, exc: Exception) -> HttpResponseBase:
        """DRF's handling; takes note of credentials that were refused."""
        http_request = getattr(self.request, "_request", None)
        if isinstance(exc, AuthenticationFailed) and isinstance(http_request, MessageRequest):
            http_request.authentication_failed = True
        return super().handle_exception(exc)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """DRF's checks; then the refusal of what does not exist, so that 401 comes before 405."""
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

    def finalize_response(
        self, request: Request, response: HttpResponseBase, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        """DRF's last step; a coroutine or generator passes, and comes again as a response."""
        if is_unfinished(response) and isinstance(request._request, MessageRequest):
            return response
        return super().finalize_response(request, response, *args, **kwargs)


class GenericConsumerViewSetMixin(ConsumerViewSetMixin):
    """`ConsumerViewSetMixin` for viewsets that have serializers."""

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        """DRF's serializer, its fields copied where they would be built the same again."""
        serializer = super().get_serializer(*args, **kwargs)
        lend_fields(serializer)
        return serializer


class ConsumerViewSet(GenericConsumerViewSetMixin, SubscriptionMixin, GenericViewSet):
    """
    DRF's `GenericViewSet` over a websocket: no actions of its own. With DRF's `ListModelMixin` or
    `RetrieveModelMixin` it can be subscribed to as well.
    """


class ModelConsumerViewSet(GenericConsumerViewSetMixin, ModelViewSet, SubscriptionMixin):
    """
    list, retrieve, create, update, partial_update, destroy: DRF's own, over a websocket; and
    subscriptions to what they list and retrieve.
    """


class ReadOnlyModelConsumerViewSet(
    GenericConsumerViewSetMixin, ReadOnlyModelViewSet, SubscriptionMixin
):
    """list, retrieve: DRF's own, over a websocket; and subscriptions to them."""


def as_consumer(viewset: type[ViewSetMixin]) -> type[ConsumerViewSetMixin]:
    """`viewset` itself where it can take frames, else a subclass of it that can."""
    if issubclass(viewset, ConsumerViewSetMixin):
        return viewset
    bases: tuple[Any, ...] = (ConsumerViewSetMixin, viewset)
    if issubclass(viewset, GenericAPIView):
        # Behind it: what the viewset itself calls `subscribe` stays what it is.
        bases = (GenericConsumerViewSetMixin, viewset, SubscriptionMixin)
    # The mixin's own attribute, before the viewset's, would hide it.
    in_flight = getattr(viewset, "max_in_flight", ConsumerViewSetMixin.max_in_flight)
    return subclass(viewset, bases, {"max_in_flight": in_flight})


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


def _preset_data(drf_request: Request, request: MessageRequest) -> None:
    if request.frame.data is MISSING:
        return
    parser = drf_request.negotiator.select_parser(drf_request, drf_request.parsers)
    if type(parser) is JSONParser:
        # What JSONParser would return for `request.body`.
        drf_request._data = drf_request._full_data = request.frame.data
        drf_request._files = MultiValueDict()
    else:
        # A parser of the project's own (one that changes the names' case, say), or none for JSON,
        # which DRF answers with 415.
        request.fill_stream()
