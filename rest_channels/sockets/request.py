"""
A frame as Django and DRF see it: a request.

`Handshake` holds what all frames of a socket share. `MessageRequest` is one frame, with the verb of
its action, the path that HTTP would use, the handshake's headers and cookies, and the frame's data.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, Self

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest, get_script_prefix
from django.http import HttpResponseBase, QueryDict
from django.urls import Resolver404, ResolverMatch, resolve, set_script_prefix
from django.utils import translation
from django.utils.datastructures import MultiValueDict
from rest_framework.request import Request

from rest_channels.protocol import MISSING, Frame
from rest_channels.sockets.credentials import SocketCredentials
from rest_channels.workers.contexts import variables_of_socket

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase
    from rest_framework.views import APIView


Scope = Mapping[str, Any]

#: The key under which the test client puts `{"user": ..., "token": ...}`; no server fills it.
FORCED_AUTHENTICATION: Final = "rest_channels.forced_authentication"

# They describe the upgrade, not the resource.
_HANDSHAKE_ONLY = frozenset({b"connection", b"upgrade", b"content-type", b"content-length"})

# JSON if the view can write it, else its first renderer, as without the header.
_ACCEPT = (b"accept", b"application/json, */*")


@dataclass(frozen=True)
class Handshake:
    """
    The part that all frames of one socket share.

    `kwargs` are the lookups bound by the URL; `mount` is the path below which the router's own
    paths begin, with a trailing slash; `verdicts` are decisions of viewsets about this socket,
    which need not be asked for again; `variables` are the context variables set around it.
    """

    scope: Scope
    credentials: SocketCredentials
    kwargs: Mapping[str, Any]
    mount: str = "/"
    verdicts: dict[Any, bool] = field(default_factory=dict, compare=False)
    variables: Mapping[ContextVar[Any], Any] = field(
        default_factory=variables_of_socket, compare=False
    )

    @cached_property
    def headers(self) -> dict[bytes, bytes]:
        """The headers a frame inherits."""
        headers: dict[bytes, bytes] = {}
        for name, value in self.scope.get("headers", []):
            if name in _HANDSHAKE_ONLY or name.startswith(b"sec-websocket-"):
                continue
            headers[name] = headers[name] + b"," + value if name in headers else value
        return headers

    @cached_property
    def correlation_id(self) -> str | None:
        """The id that a proxy or a client has given to the handshake, for logs."""
        return correlation_id(self.headers.get(b"x-request-id", b"").decode("latin-1"))


# Enough for UUIDs, ULIDs and the ids of proxies. Other characters could break lines of a log.
_CORRELATION_ID: Final = re.compile(r"[\w.:/+=@-]{1,128}", re.ASCII)


def correlation_id(text: str) -> str | None:
    """Return `text` if it is an id for logs: at most 128 plain characters, without spaces."""
    return text if _CORRELATION_ID.fullmatch(text) else None


@dataclass(slots=True)
class Call:
    """
    A resolved frame: a view, and the arguments to call it with. Not changed once it is made.

    `refusal` makes an exception, in the request's language, to raise after authentication,
    permissions and throttles; meanwhile the view's action is `refused_action`, or None. `own_match`
    replaces Django's URLconf if that does not know `path`; few requests ask for it.
    `is_authentication` is for new credentials, which need no permission. `seen_action` is the
    view's action if it is not its handler's name: to the viewset, a subscription is a `list`.
    `is_review` is for asking again what a subscription shows.
    """

    view: Callable[..., HttpResponseBase]
    method: str
    path: str
    kwargs: Mapping[str, Any]
    own_match: Callable[[], ResolverMatch] | None = None
    refusal: Callable[[], Exception] | None = None
    refused_action: str | None = None
    is_authentication: bool = False
    seen_action: str | None = None
    is_review: bool = False


class HandshakeRequest(ASGIRequest):
    """The handshake itself as a GET request: for its host, origin and cookies."""

    def __init__(self, scope: Scope) -> None:
        super().__init__({**scope, **_http_part(scope), "method": "GET"}, io.BytesIO())


class MessageRequest(ASGIRequest):
    """
    One frame as a Django request.

    DRF's `Request` wraps it as it wraps any other. `view` is the view instance that took it;
    `session_key` names the session it came with, `has_saved_session` says that a change of it was
    saved before the frame was answered, `taken_by` is the mark of the credentials it came with, and
    `authentication_failed` says that DRF's authentication classes refused them.
    """

    META: dict[str, Any]
    view: APIView | None = None
    has_saved_session = False
    #: Whether the frame was begun before, and had to wait: the throttles have counted it.
    is_again = False
    authentication_failed = False

    def __init__(
        self,
        handshake: Handshake,
        frame: Frame,
        call: Call,
    ) -> None:
        self.frame = frame
        self.call = call
        self.verdicts = handshake.verdicts
        self._resolver_match: ResolverMatch | None = None
        headers = _merged_headers(handshake, frame.headers)
        if call.is_authentication:
            # Judged alone: a class that reads a cookie would mistake the socket's for the new
            # credentials.
            headers[b"cookie"] = b""
        scope = {
            **handshake.scope,
            **_http_part(handshake.scope),
            "method": call.method.upper(),
            "path": call.path,
            "query_string": _merged_query(handshake.scope.get("query_string", b""), frame),
            "headers": list(headers.items()),
        }
        super().__init__(scope, io.BytesIO())
        # The Origin check at the handshake replaces the token: `rest_channels.sockets.handshake`.
        self._dont_enforce_csrf_checks = True
        forced = handshake.scope.get(FORCED_AUTHENTICATION)
        if forced:
            self._force_auth_user = forced.get("user")
            self._force_auth_token = forced.get("token")
        self.credentials = handshake.credentials
        self.taken_by, self.session_key, user = self.credentials.borne_by(self)
        if user is not None:
            self.user = user

    # Called within DRF's dispatch, which reveals neither its view nor its exceptions.

    def note_view(self, view: APIView) -> None:
        """Note that `view` took this request."""
        self.view = view

    def note_failed_authentication(self) -> None:
        """Note that an authentication class of the view refused the credentials."""
        self.authentication_failed = True

    def note_saved_session(self) -> None:
        """Note that a change of the session is saved before the frame is answered."""
        self.has_saved_session = True

    @cached_property
    def session(self) -> SessionBase:
        """The request's session, as Django's middleware would leave it: unread."""
        return self.credentials.session_of(self)

    @property
    def has_session(self) -> bool:
        """Whether code has accessed `session`: otherwise nothing can have changed it."""
        return "session" in vars(self)

    @property
    def has_unsaved_session(self) -> bool:
        """Whether its session was changed and not saved."""
        if not self.has_session or not self.session.modified:
            return False
        return not self.session.is_empty()

    @property
    def has_own_credentials(self) -> bool:
        """Whether the credentials belong to the frame, or to the test client, not to the socket."""
        return "authorization" in self.frame.headers or hasattr(self, "_force_auth_user")

    @property
    def body(self) -> bytes:
        """The frame's data as JSON, for code that reads the body."""
        if not hasattr(self, "_body"):
            data = self.frame.data
            self._body = b"" if data is MISSING else json.dumps(data).encode()
        return self._body

    def fill_stream(self) -> None:
        """Let a parser read `body` as from an HTTP request."""
        self.META["CONTENT_LENGTH"] = str(len(self.body))
        self._stream = io.BytesIO(self.body)

    @property
    def resolver_match(self) -> ResolverMatch | None:
        """The match of the path by Django's URLconf, or by our own router if it has none."""
        if self._resolver_match is None:
            find = self.call.own_match or partial(resolve, self.path_info)
            try:
                self._resolver_match = find()
            except Resolver404:
                return None
        return self._resolver_match

    @resolver_match.setter
    def resolver_match(self, match: ResolverMatch | None) -> None:
        self._resolver_match = match


def pk_of_user(request: MessageRequest) -> Any:
    """Return the primary key of the user that DRF has found; in the thread that answers."""
    user = getattr(getattr(request.view, "request", None), "_user", None)
    return None if user is None else getattr(user, "pk", None)


class FrameRequest(Request):
    """
    DRF's request for a frame.

    DRF's `initialize_request` does not let a view choose the request's class, and a viewset may
    override it. So this class takes over the attributes of the request that it returned.
    """

    @classmethod
    def of(cls, request: Request) -> Self:
        """Return a request of this class in place of `request`, which must not be used any more."""
        own = cls.__new__(cls)
        own.__dict__.update(request.__dict__)
        own.parser_context["request"] = own
        return own

    def take(self, data: Any) -> None:
        """Set `data`, as DRF's JSONParser would make it of the body, as if parsed already."""
        self._data = self._full_data = data
        self._files = MultiValueDict()


def activate_script_prefix(scope: Scope) -> None:
    """Tell `reverse()` where the site is mounted, as Django's handler does first."""
    set_script_prefix(get_script_prefix(scope))


def activate_language(request: MessageRequest) -> None:
    """Activate the language as LocaleMiddleware does over HTTP, if the project uses it."""
    if settings.USE_I18N and "django.middleware.locale.LocaleMiddleware" in settings.MIDDLEWARE:
        translation.activate(translation.get_language_from_request(request))
        request.LANGUAGE_CODE = translation.get_language()


def _http_part(scope: Scope) -> dict[str, Any]:
    """Return the part of the scope that differs for HTTP."""
    part: dict[str, Any] = {
        "type": "http",
        "scheme": "https" if scope.get("scheme") in ("wss", "https") else "http",
    }
    if not scope.get("server") and not any(name == b"host" for name, _ in scope.get("headers", [])):
        # Only a scope made by hand has neither; the name is Django's test client's, which
        # ALLOWED_HOSTS admits only in tests.
        part["server"] = ("testserver", 80)
    return part


def _merged_query(query_string: bytes, frame: Frame) -> bytes:
    if not frame.query:
        return query_string
    query = QueryDict(query_string, mutable=True)
    for name, values in frame.query.items():
        query.setlist(name, values)
    merged: str = query.urlencode()
    return merged.encode()


def _merged_headers(handshake: Handshake, own: Mapping[str, str]) -> dict[bytes, bytes]:
    headers = dict([_ACCEPT])
    headers.update(handshake.headers)
    headers.update(handshake.credentials.headers)
    for name, value in own.items():
        headers[name.encode()] = value.encode("latin-1")
    headers[b"content-type"] = b"application/json"
    return headers
