"""
The same request over HTTP and over sockets, and what must be equal of the answers.

    def test_rooms_are_created(site):
        site.register("rooms", RoomViewSet)
        answer = site.same("POST /api/rooms/", "create", data={"name": "attic"})
        assert answer.status_code == 201

`same` asks HTTP first, then every socket that can take the frame: the root, the collection's own
and the row's own. Each finds the same database, for what the one before it wrote is rolled back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from channels.routing import URLRouter
from django.apps import apps
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core.management.color import no_style
from django.db import connection, transaction
from django.http import HttpResponseBase
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import NoReverseMatch, URLResolver, include, path
from django.urls.resolvers import RegexPattern
from django.utils import timezone, translation
from rest_framework import routers
from rest_framework.test import APIClient
from rest_framework.viewsets import ViewSetMixin

from rest_channels.protocol import MISSING
from rest_channels.routers import DefaultRouter
from rest_channels.sockets.connection import StreamConnection
from rest_channels.sockets.demultiplexer import Demultiplexer
from rest_channels.sockets.response import codes_of
from rest_channels.test import SocketClient, SocketReply
from tests.support.table_cleanup import tables_with_rows

# Headers by which HTTP, or the middleware, carries an answer. A reply has `Allow` with a 405.
_CARRIAGE = {"allow", "vary", "content-type", "content-length", "content-language"}


class OpenHandshake:
    """Sockets that open to everybody, so that what every frame is answered can be compared."""

    def refusal(self, streams: list[Any], *, is_row: bool = False) -> None:
        return None


class OpenConnection(OpenHandshake, StreamConnection):
    pass


class OpenDemultiplexer(OpenHandshake, Demultiplexer):
    pass


@dataclass(frozen=True)
class Answer:
    """
    The values to compare.

    `errors` and `codes` are as the wire protocol shows them; `queries` is the SQL with its literals
    left out, `rows` what the database holds afterwards.
    """

    status_code: int
    data: Any
    errors: list[Any]
    codes: Any
    headers: dict[str, str]
    queries: list[str]
    rows: dict[str, list[Any]]


class Site:
    """
    One project: the same viewsets on a router of DRF's and on one of ours.

    `http` and `socket` say where they are mounted. `headers` are the handshake's, and each HTTP
    request's. Other options are the routers' own.
    """

    def __init__(
        self,
        *,
        http: str = "api/",
        socket: str = "ws/",
        namespace: str | None = None,
        **options: Any,
    ) -> None:
        self.headers: dict[str, str] = {}
        self.client = APIClient(raise_request_exception=False)
        self.socket_router = DefaultRouter(namespace=namespace, **options)
        self._http_router = routers.DefaultRouter(**options)
        self._http_mount, self._socket_mount, self._namespace = http, socket, namespace
        self._forced: Any = None
        self._credentials: dict[str, str] = {}
        self._now = timezone.now()
        self._settings = override_settings(
            ROOT_URLCONF=self,
            REST_CHANNELS={
                **settings.REST_CHANNELS,
                "CONNECTION_CLASS": f"{__name__}.OpenConnection",
                "DEMULTIPLEXER_CLASS": f"{__name__}.OpenDemultiplexer",
            },
        )

    def __enter__(self) -> Site:
        self._settings.enable()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._settings.disable()

    def register(
        self, prefix: str, viewset: type[ViewSetMixin], basename: str | None = None
    ) -> None:
        self._http_router.register(prefix, viewset, basename)
        self.socket_router.register(prefix, viewset, basename)

    @property
    def urlpatterns(self) -> list[URLResolver]:
        """A site as a URLconf."""
        urls = self._http_router.urls
        if self._namespace is None:
            return [path(self._http_mount, include(urls))]
        return [path(self._http_mount, include((urls, self._namespace), self._namespace))]

    def force_authenticate(self, user: Any) -> None:
        self._forced = user
        self.client.force_authenticate(user)

    def credentials(self, **headers: str) -> None:
        self._credentials = headers
        self.client.credentials(**headers)

    def force_login(self, user: Any) -> None:
        """One session, whose cookie both send."""
        self.client.force_login(user)

    def same(
        self, line: str, action: str, *, stream: str | None = None, data: Any = MISSING, **keys: Any
    ) -> Answer:
        """
        Ask for `line` over HTTP and for `action` over each socket; return their one answer.

        `keys` are the frame's: lookups, `query`, `method`; `data` and `headers` are sent by both.
        """
        headers = keys.get("headers", {})
        with self._undone():
            expected = self.http(line, data=data, headers=headers)
        for at, name, rest in self.sockets(stream, keys):
            with self._undone():
                answer = self.socket(action, at=at, stream=name, data=data, **rest)
            if action == "list":
                queries = _without_total_order(answer.queries, expected.queries)
                answer = replace(answer, queries=queries)
            assert vars(answer) == vars(expected), f"{at} differs from {line}"
        return expected

    def http(
        self, line: str, *, data: Any = MISSING, headers: dict[str, str] | None = None
    ) -> Answer:
        """The answer to `line`, such as `GET /api/rooms/?page=2`, with `data` as its JSON body."""
        method, _, url = line.partition(" ")
        body = {} if data is MISSING else {"content_type": "application/json"}
        text = "" if data is MISSING else json.dumps(data)
        with self._measured() as measure:
            response = self.client.generic(
                method, url, text, headers={**self.headers, **(headers or {})}, **body
            )
            return measure(**_of_http(response))

    def socket(
        self, action: str, *, at: str | None = None, stream: str | None = None, **keys: Any
    ) -> Answer:
        """The answer to `action` on the socket `at` a path, by default on the root socket."""
        if at is None:
            at, stream, keys = next(self.sockets(stream, keys))
        application = URLRouter(self._socket_urls)
        client = SocketClient(application, at, headers={**self._cookies, **self.headers})
        client.credentials(**self._credentials)
        if self._forced is not None:
            client.force_authenticate(self._forced)
        with client, self._measured() as measure:
            return measure(**_of_socket(client.request(action, stream, **keys)))

    def sockets(
        self, stream: str | None, keys: dict[str, Any]
    ) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
        """Path, stream and remaining keys for each socket whose lookups `keys` hold."""
        stream = stream or self.socket_router.registry[0][0]
        resolver = URLResolver(RegexPattern("^/"), self._socket_urls_for_reverse)
        mount_names = set(re.findall(r"<(?:\w+:)?(\w+)>", self._socket_mount))
        for route in self.socket_router.urls:
            served = route.callback.initkwargs.get("stream")
            if served is not None and served.prefix != stream:
                continue
            bound = mount_names | set(route.pattern.regex.groupindex)
            if not bound <= keys.keys():
                continue
            try:
                url = resolver.reverse(route.name, **{name: keys[name] for name in bound})
            except NoReverseMatch:
                continue  # no such socket: the lookup has a form the URL does not admit
            rest = {name: value for name, value in keys.items() if name not in bound}
            yield f"/{url}", stream if served is None else None, rest

    @property
    def _socket_urls(self) -> list[Any]:
        return [path(self._socket_mount, URLRouter(self.socket_router.urls))]

    @property
    def _socket_urls_for_reverse(self) -> list[Any]:
        return [path(self._socket_mount, include(self.socket_router.urls))]

    @property
    def _cookies(self) -> dict[str, str]:
        pairs = [f"{name}={morsel.value}" for name, morsel in self.client.cookies.items()]
        return {"cookie": "; ".join(pairs)} if pairs else {}

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Whatever happens within, to the database and to the client's cookies, is undone."""
        cookies = copy(self.client.cookies)
        _reset_sequences()
        with transaction.atomic():
            yield
            transaction.set_rollback(True)
        self.client.cookies = cookies

    @contextmanager
    def _measured(self) -> Iterator[Any]:
        # Within, the clock stands still and no language outlives the request.
        clock = mock.patch("django.utils.timezone.now", return_value=self._now)
        language = translation.override(translation.get_language())
        with clock, language, CaptureQueriesContext(connection) as captured:

            def measure(**parts: Any) -> Answer:
                queries = [_without_literals(query["sql"]) for query in captured]
                return Answer(**parts, queries=queries, rows=_rows())

            yield measure


# The end of a statement whose order is total.
_TOTAL = re.compile(r"( ORDER BY|,) \S+\.\Wid\W ASC")


def _without_total_order(queries: list[str], expected: list[str]) -> list[str]:
    """Return `queries` without a last term by the primary key, which `expected` need not have."""
    if len(queries) != len(expected):
        return queries
    return [
        like if query.startswith(like) and _TOTAL.fullmatch(query, len(like)) else query
        for query, like in zip(queries, expected, strict=True)
    ]


def _of_http(response: HttpResponseBase) -> dict[str, Any]:
    content = b"".join(response) if response.streaming else response.content
    is_json = response.get("Content-Type", "application/json") == "application/json"
    text = content.decode()
    body = (json.loads(text) if is_json else text) if text else None
    failed = response.status_code >= 400
    # HTTP does not show them: what is compared is whose they are.
    codes = codes_of(body, response.data) if failed and hasattr(response, "data") else None
    carriage = _CARRIAGE - ({"allow"} if response.status_code == 405 else set())
    carriage -= set() if is_json else {"content-type"}
    return {
        "status_code": response.status_code,
        "data": None if failed else body,
        "errors": _as_errors(body) if failed else [],
        "codes": json.loads(json.dumps(_as_errors(codes))) if codes else None,
        "headers": {n: value for n, value in response.items() if n.lower() not in carriage},
    }


def _of_socket(reply: SocketReply) -> dict[str, Any]:
    parts = ("status_code", "data", "errors", "codes", "headers")
    return {part: getattr(reply, part) for part in parts}


def _as_errors(body: Any) -> list[Any]:
    match body:
        case None:
            return []
        case list():
            return body
        case {"detail": str(detail)} if len(body) == 1:
            return [detail]
    return [body]


def _without_literals(sql: str) -> str:
    return re.sub(r"'(?:[^']|'')*'|\bs\d+_x\d+\b", "?", sql)


def _rows() -> dict[str, list[Any]]:
    filled = set(tables_with_rows("default"))
    rows = {
        model.__name__: list(model.objects.order_by("pk").values())
        if model._meta.db_table in filled
        else []
        for model in _models()
    }
    rows["Session"] = [session.get_decoded() for session in Session.objects.all()]
    return rows


def _models() -> list[Any]:
    """Those that have tables: of some a single test makes them."""
    return [m for m in apps.get_app_config("tests").get_models() if m._meta.managed]


def _reset_sequences() -> None:
    """Let the next row have the number it would have had: sequences do not roll back."""
    with connection.cursor() as cursor:
        if statements := connection.ops.sequence_reset_sql(no_style(), _models()):
            cursor.execute(" ".join(statements))
