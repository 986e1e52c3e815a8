"""
A frame as Django and DRF see it: a request.

`Handshake` is what holds for all frames of a socket; `MessageRequest` is one frame, with the verb
of its action, the path HTTP would use, the handshake's headers and cookies, and the frame's data.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest, get_script_prefix
from django.http import HttpResponseBase, QueryDict
from django.http.request import HttpHeaders
from django.urls import Resolver404, ResolverMatch, resolve, set_script_prefix
from django.utils import translation

from rest_channels.protocol import MISSING, Frame

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase
    from rest_framework.views import APIView

    from rest_channels.authentication import Credentials

Scope = Mapping[str, Any]

#: Where the test client puts `{"user": ..., "token": ...}`; no server fills it.
FORCED_AUTHENTICATION: Final = "rest_channels.forced_authentication"

# They describe the upgrade, not what is asked for.
_HANDSHAKE_ONLY = frozenset({b"connection", b"upgrade", b"content-type", b"content-length"})

# What frames of one socket differ by in META.
_OF_A_FRAME = ("REQUEST_METHOD", "QUERY_STRING", "SCRIPT_NAME", "PATH_INFO")

# JSON where the view can write it, else what the view writes first, as without the header.
_ACCEPT = (b"accept", b"application/json, */*")


@dataclass(frozen=True)
class Handshake:
    """
    What all frames of one socket share.

    `kwargs` are the lookups bound by the URL; `mount` is the path below which the router's own
    paths begin, with a slash at its end; `verdicts` what viewsets said of this socket, to be asked
    no more.
    """

    scope: Scope
    credentials: Credentials
    kwargs: Mapping[str, Any]
    mount: str = "/"
    verdicts: dict[Any, bool] = field(default_factory=dict, compare=False)

    @cached_property
    def headers(self) -> dict[bytes, bytes]:
        """The headers a frame inherits."""
        headers: dict[bytes, bytes] = {}
        for name, value in self.scope.get("headers", []):
            if name in _HANDSHAKE_ONLY or name.startswith(b"sec-websocket-"):
                continue
            headers[name] = headers[name] + b"," + value if name in headers else value
        return headers

    @property
    def usual(self) -> Usual:
        """What frames without headers of their own have in common."""
        usual: Usual | None = vars(self).get("_usual")
        if usual is None or usual.source is not self.credentials.headers:
            usual = vars(self)["_usual"] = Usual.of(self)
        return usual


class Usual(NamedTuple):
    """
    What Django makes of a request that knows no more than its socket: headers in META, mostly.

    `source` are the credentials' headers it was made with; `scope` is what HTTP has otherwise than
    the handshake.
    """

    source: Mapping[bytes, bytes]
    scope: Mapping[str, Any]
    state: Mapping[str, Any]
    headers: HttpHeaders

    @classmethod
    def of(cls, handshake: Handshake) -> Usual:
        """Let Django make it."""
        source = handshake.credentials.headers
        headers = list(_merged_headers(handshake, {}).items())
        scope = {**_http_part(handshake.scope), "headers": headers}
        request = ASGIRequest(
            {**handshake.scope, **scope, "method": "GET", "path": "", "query_string": b""},
            io.BytesIO(),
        )
        state = vars(request).copy()
        # A property of ours.
        state.pop("resolver_match", None)
        return cls(source, scope, state, HttpHeaders(request.META))


@dataclass(frozen=True)
class Call:
    """
    What a frame comes down to: a view, and what to call it with.

    `refusal` makes an exception, in the request's language, to raise once authentication,
    permissions and throttles have had their say; meanwhile the view's action is `refused_action`,
    None where there is none. `own_match` stands in where Django's URLconf does not know `path`.
    `is_authentication` is for credentials that are only shown, which needs no permission.
    `seen_action` is the view's action where it is not its handler's name: a subscription is a
    `list` to the viewset. `is_review` is for what a subscription shows, asked again.
    """

    view: Callable[..., HttpResponseBase]
    method: str
    path: str
    kwargs: Mapping[str, Any]
    own_match: ResolverMatch | None = None
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
    `session_key` names the session it came with, and `authentication_failed` and `signs_out` say
    what became of its credentials.
    """

    view: APIView | None = None
    session_key: str | None = None
    authentication_failed = False
    signs_out = False

    def __init__(
        self,
        handshake: Handshake,
        frame: Frame,
        call: Call,
    ) -> None:
        self.frame = frame
        self.call = call
        self.verdicts = handshake.verdicts
        self._usual: Usual | None = None
        self._resolver_match: ResolverMatch | None = None
        scope = {
            **handshake.scope,
            "method": call.method.upper(),
            "path": call.path,
            "query_string": _merged_query(handshake.scope.get("query_string", b""), frame),
        }
        if frame.headers or call.is_authentication:
            headers = _merged_headers(handshake, frame.headers)
            if call.is_authentication:
                # Judged by itself: a class that reads a cookie would take the socket's for what is
                # shown.
                headers[b"cookie"] = b""
            scope.update(_http_part(handshake.scope), headers=list(headers.items()))
            super().__init__(scope, io.BytesIO())
        else:
            self._become(scope, handshake.usual)
        # The Origin check at the handshake stands in for the token: `rest_channels.origin`.
        self._dont_enforce_csrf_checks = True
        forced = handshake.scope.get(FORCED_AUTHENTICATION)
        if forced:
            self._force_auth_user = forced.get("user")
            self._force_auth_token = forced.get("token")
        self.credentials = handshake.credentials
        self.credentials.attach(self)

    def _become(self, scope: dict[str, Any], usual: Usual) -> None:
        # What Django's `__init__` does, with most of it done before.
        self.__dict__.update(usual.state)
        scope.update(usual.scope, headers=usual.scope["headers"].copy())
        self.scope = scope
        self.content_params = usual.state["content_params"].copy()
        self.method = scope["method"]
        self.path = scope["path"]
        self.script_name = get_script_prefix(scope)
        self.path_info = self.path.removeprefix(self.script_name)
        self.META = {
            **usual.state["META"],
            "REQUEST_METHOD": self.method,
            "QUERY_STRING": scope["query_string"].decode(),
            "SCRIPT_NAME": self.script_name,
            "PATH_INFO": self.path_info,
        }
        self._stream = io.BytesIO()
        self._usual = usual

    @cached_property
    def headers(self) -> HttpHeaders:
        """Django's view of META; shared by the frames of a socket as long as META is theirs."""
        if self._usual is not None:
            usual = self._usual.state["META"]
            if {**self.META, **{name: usual[name] for name in _OF_A_FRAME}} == usual:
                return self._usual.headers
        return HttpHeaders(self.META)

    @cached_property
    def session(self) -> SessionBase:
        """The session it came with, as Django's middleware would leave it: unread."""
        return self.credentials.session_of(self)

    @property
    def has_session(self) -> bool:
        """Whether anybody has asked for `session`: nobody else can have changed it."""
        return "session" in vars(self)

    @property
    def has_own_credentials(self) -> bool:
        """Whether they are the frame's, or the test client's, and not the socket's."""
        return "authorization" in self.frame.headers or hasattr(self, "_force_auth_user")

    @property
    def body(self) -> bytes:
        """The frame's data as the JSON it came as, for code that reads it."""
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
        """How Django's URLconf resolves the path; our own router's match where it doesn't."""
        if self._resolver_match is None:
            try:
                self._resolver_match = self.call.own_match or resolve(self.path_info)
            except Resolver404:
                return None
        return self._resolver_match

    @resolver_match.setter
    def resolver_match(self, match: ResolverMatch | None) -> None:
        self._resolver_match = match


def activate_script_prefix(scope: Scope) -> None:
    """What Django's handler does first: make `reverse()` know where the site is mounted."""
    set_script_prefix(get_script_prefix(scope))


def activate_language(request: MessageRequest) -> None:
    """What LocaleMiddleware does over HTTP, where the project uses it."""
    if settings.USE_I18N and "django.middleware.locale.LocaleMiddleware" in settings.MIDDLEWARE:
        translation.activate(translation.get_language_from_request(request))
        request.LANGUAGE_CODE = translation.get_language()


def _http_part(scope: Scope) -> dict[str, Any]:
    """What the scope of a request by HTTP has otherwise."""
    part: dict[str, Any] = {
        "type": "http",
        "scheme": "https" if scope.get("scheme") in ("wss", "https") else "http",
    }
    if not scope.get("server") and not any(name == b"host" for name, _ in scope.get("headers", [])):
        # Only a scope made by hand has neither; the name is Django's test client's, which
        # ALLOWED_HOSTS admits in tests alone.
        part["server"] = ("testserver", 80)
    return part


def _merged_query(query_string: bytes, frame: Frame) -> bytes:
    if not frame.query:
        return query_string
    query = QueryDict(query_string, mutable=True)
    for name, values in frame.query.items():
        query.setlist(name, values)
    return query.urlencode().encode()


def _merged_headers(handshake: Handshake, own: Mapping[str, str]) -> dict[bytes, bytes]:
    headers = dict([_ACCEPT])
    headers.update(handshake.headers)
    headers.update(handshake.credentials.headers)
    for name, value in own.items():
        headers[name.encode()] = value.encode("latin-1")
    headers[b"content-type"] = b"application/json"
    return headers
