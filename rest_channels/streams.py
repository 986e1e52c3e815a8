"""
What one registered viewset answers: its actions, each with the URL and the verbs DRF gives it.

The table is made once, when routes are built, from the URL patterns that DRF's own router makes of
the viewset; `Stream.call` finds in it what a frame asks for.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any, Final
from urllib.parse import unquote
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.base import BaseHandler
from django.http import HttpResponseBase
from django.urls import (
    NoReverseMatch,
    ResolverMatch,
    URLPattern,
    URLResolver,
    get_resolver,
    get_script_prefix,
    get_urlconf,
    reverse,
)
from django.urls.resolvers import RegexPattern
from django.utils.translation import get_language
from rest_framework.exceptions import MethodNotAllowed, ValidationError
from rest_framework.fields import Field
from rest_framework.routers import Route, SimpleRouter
from rest_framework.viewsets import ViewSetMixin

from rest_channels.protocol import Frame, query_values
from rest_channels.request import Call, Handshake

#: Subscriptions, and the actions whose URLs, permissions and querysets are theirs.
SUBSCRIPTIONS: Final = {"subscribe": "list", "subscribe_instance": "retrieve"}

#: DCRF's words for two of DRF's actions.
ALIASES = {"patch": "partial_update", "delete": "destroy"}


# Rows whose URLs are remembered, of each stream: reversing one costs as much as a small query.
_PLACES: Final = 1024


@dataclass(frozen=True, eq=False)
class Endpoint:
    """One URL of a viewset as DRF's router made it, with the view behind it."""

    pattern: URLPattern
    view: Callable[..., HttpResponseBase]
    seen_action: str | None = None

    @property
    def name(self) -> str:
        return self.pattern.name

    @property
    def mapping(self) -> Mapping[str, str]:
        """Verbs to actions, in the order they were declared."""
        return self.pattern.callback.actions

    @property
    def is_detail(self) -> bool:
        return bool(self.pattern.callback.initkwargs["detail"])

    def read(self, name: str, value: str | int) -> Any:
        """A frame's lookup as the URL's converter would read it. Raises `NoReverseMatch`."""
        converter = self.pattern.pattern.converters.get(name)
        if converter is None:
            return value
        text = str(value)
        if re.fullmatch(converter.regex, text):
            # A converter's way to say that the URL is none of its own after all.
            with suppress(ValueError):
                return converter.to_python(text)
        raise NoReverseMatch(f"{name}={text!r}")

    @cached_property
    def lookups(self) -> frozenset[str]:
        """The names the URL captures: all that a frame may give as a lookup."""
        return frozenset(self.pattern.pattern.regex.groupindex)


class Stream:
    """
    One registered viewset on a socket.

    `prefix` is what it was registered under, its name on a shared socket; `namespace` the
    namespace under which the same router is included in Django's URLconf, if any.
    """

    #: Whether it has something to say to the handshake: see `Connection.invite`.
    opens_with_socket = False

    def __init__(
        self,
        viewset: type[ViewSetMixin],
        prefix: str,
        basename: str,
        router: SimpleRouter,
        namespace: str | None = None,
    ) -> None:
        self.viewset = viewset
        self.prefix = prefix
        self.basename = basename
        self.namespace = namespace
        self.endpoints = _endpoints(viewset, prefix, basename, router)
        if not self.endpoints:
            raise ImproperlyConfigured(
                f"{viewset.__name__} has no actions to route: give it list(), retrieve(), ... "
                "or a method decorated with @action."
            )
        self.actions = {
            action: endpoint
            for endpoint in reversed(self.endpoints)
            for action in endpoint.mapping.values()
        }
        # A viewset's own actions of these names win.
        self.actions = {**_subscriptions(self.actions), **self.actions}
        self._usual = _usual_requests(router)
        self._authentication_view = viewset.as_view(
            {"post": "authenticate_socket"}, basename=basename, detail=False
        )
        self.max_in_flight: int = getattr(viewset, "max_in_flight", 1)
        self.query_keys = _declared_query_keys(viewset)
        self._own_place = lru_cache(_PLACES)(self._find_own_place)
        self._http_place = lru_cache(_PLACES)(self._find_http_place)
        self._review_view = lru_cache(None)(self._find_review_view)
        patterns = {id(e): e.pattern for e in [*self.endpoints, *self.actions.values()]}
        self._resolver = URLResolver(RegexPattern(r"^/"), list(patterns.values()))

    def __repr__(self) -> str:
        return f"<Stream {self}>"

    def __str__(self) -> str:
        return f"{self.prefix}  ({self.viewset.__name__})"

    def read(self, payload: Any, max_request_id_chars: int) -> Frame:
        """The frame that `payload` is. Raises `FrameError`."""
        return Frame.from_payload(payload, max_request_id_chars=max_request_id_chars)

    def action_name(self, word: str) -> str:
        """The action a frame's word stands for: itself, or DRF's name for DCRF's word."""
        return word if word in self.actions else ALIASES.get(word, word)

    def verbs(self, action: str) -> list[str]:
        """The HTTP verbs `action` declares, the default one first."""
        endpoint = self.actions[action]
        return [
            verb for verb, name in endpoint.mapping.items() if name == action and verb != "head"
        ]

    def call(self, frame: Frame, handshake: Handshake, *, is_row: bool) -> Call:
        """
        Find the view, verb, path and lookups for `frame`.

        `is_row`: the socket is a row's, where only actions on that row exist. What cannot be
        served becomes a call that is refused after authentication, permissions and throttles, so
        that a stranger meets 401 before 405. Raises `NoReverseMatch` where a lookup has a form
        that the URL does not admit: over HTTP there is no such page, 404.
        """
        assert frame.action is not None, "from_payload() requires one"
        action = self.action_name(frame.action)
        given = self._lookups(frame, handshake)
        if action == "metadata" and action not in self.actions:
            endpoint, verb = self._described(given, is_row), "options"
        else:
            found = self.actions.get(action)
            if found is None or (is_row and not found.is_detail):
                return self._absent(frame.action, given, handshake, is_row)
            endpoint, verbs = found, self.verbs(action)
            verb = frame.method or verbs[0]
            if verb not in verbs:
                refusal = partial(MethodNotAllowed, verb.upper())
                return self._refuse(endpoint, verb, given, handshake, refusal)
        missing = endpoint.lookups - given.keys()
        if missing:
            refusal = partial(_required, sorted(missing))
            call = self._refuse(endpoint, verb, given, handshake, refusal)
            # It is there, so its own permissions decide who may know what it needs.
            return replace(call, refused_action=action)
        return self._located(endpoint, verb, given, handshake)

    def authentication_call(self, handshake: Handshake) -> Call:
        """Show the frame's credentials to this viewset's authentication classes, no more."""
        call = self.call_at_mount(self.endpoints[0], "post", handshake)
        return replace(call, view=self._authentication_view, is_authentication=True)

    def call_at_mount(self, endpoint: Endpoint, verb: str, handshake: Handshake) -> Call:
        """A call of `endpoint` without its lookups: seen where the router is mounted."""
        kwargs = dict(handshake.kwargs)
        match = self._own_match(endpoint, kwargs)
        return Call(endpoint.view, verb, handshake.mount, kwargs, own_match=match)

    def review_call(self, call: Call, action: str | None, *, is_row: bool) -> Call:
        """`call`, of a subscription, as often as one likes: nothing happens but a look."""
        endpoint = self.actions[action] if action in self.actions else self.endpoints[0]
        view = self._review_view(endpoint, call.method, is_row)
        return replace(call, view=view, seen_action=action, is_review=True)

    def query(self, frame: Frame) -> Mapping[str, list[str]]:
        """The frame's query, with the top-level keys by which DCRF's clients page and filter."""
        names = frame.rest.keys() & self.query_keys
        if not names:
            return frame.query
        query = dict(frame.query)
        for name in names:
            query.setdefault(name, query_values(frame.rest[name]))
        return query

    def row_named(self, frame: Frame) -> Any:
        """The lookup that `frame` names a row by, as it says it; None where it names none."""
        return frame.rest.get(self._lookup_url_kwarg or "pk", frame.rest.get("pk"))

    def _lookups(self, frame: Frame, handshake: Handshake) -> dict[str, Any]:
        """Every lookup known, by name. What the URL bound wins over what the frame says."""
        given: dict[str, Any] = {}
        for name, value in frame.rest.items():
            if isinstance(value, (str, int)) and not isinstance(value, bool):
                given[name] = value
        lookup = self._lookup_url_kwarg
        if "pk" in given and lookup is not None:
            given.setdefault(lookup, given["pk"])
        return {**given, **handshake.kwargs}

    @cached_property
    def _lookup_url_kwarg(self) -> str | None:
        return getattr(self.viewset, "lookup_url_kwarg", None) or getattr(
            self.viewset, "lookup_field", None
        )

    def _described(self, given: Mapping[str, Any], is_row: bool) -> Endpoint:
        """The endpoint `metadata` is about: the row where one is named, else the collection."""
        candidates = [e for e in self.endpoints if e.lookups <= given.keys()] or self.endpoints
        rows = [e for e in candidates if e.is_detail]
        names_row = is_row or self._lookup_url_kwarg in given
        return rows[0] if rows and names_row else candidates[0]

    def _absent(
        self, word: str, given: Mapping[str, Any], handshake: Handshake, is_row: bool
    ) -> Call:
        """
        The refusal of an action that is not there. DRF's own actions are refused as HTTP does:
        by the verb and at the page where they would be.
        """
        verb, is_detail = self._usual.get(self.action_name(word), (None, is_row))
        if is_row and not is_detail:
            verb, is_detail = None, True
        nearest = next((e for e in self.endpoints if e.is_detail is is_detail), self.endpoints[0])
        refusal = partial(MethodNotAllowed, word if verb is None else verb.upper())
        return self._refuse(nearest, verb or "get", given, handshake, refusal)

    def _located(
        self,
        endpoint: Endpoint,
        verb: str,
        given: Mapping[str, Any],
        handshake: Handshake,
        refusal: Callable[[], Exception] | None = None,
    ) -> Call:
        # What the URL bound has been through its converters already.
        lookups = tuple(
            (name, given[name] if name in handshake.kwargs else endpoint.read(name, given[name]))
            for name in sorted(endpoint.lookups)
        )
        find = self._own_place if _is_worth_keeping(lookups) else self._find_own_place
        own_path, found = find(endpoint, lookups)
        kwargs = {**handshake.kwargs, **found}
        path = self._http_path(endpoint, kwargs)
        if path is not None:
            return Call(
                endpoint.view, verb, path, kwargs, refusal=refusal, seen_action=endpoint.seen_action
            )
        return Call(
            endpoint.view,
            verb,
            handshake.mount + own_path,
            kwargs,
            own_match=self._own_match(endpoint, kwargs),
            refusal=refusal,
            seen_action=endpoint.seen_action,
        )

    def _http_path(self, endpoint: Endpoint, kwargs: Mapping[str, Any]) -> str | None:
        """Where Django's URLconf has the same endpoint, so that links are those HTTP gives."""
        if not getattr(settings, "ROOT_URLCONF", None):
            return None
        # All that the answer depends on: Django makes another resolver of another URLconf.
        urlconf = get_resolver(get_urlconf()), get_script_prefix(), get_language()
        pairs = tuple(sorted(kwargs.items()))
        find = self._http_place if _is_worth_keeping(pairs) else self._find_http_place
        return find(endpoint, pairs, urlconf)

    def _find_review_view(
        self, endpoint: Endpoint, verb: str, is_row: bool
    ) -> Callable[..., HttpResponseBase]:
        handler = "review_row" if is_row else "review_collection"
        return self.viewset.as_view({verb: handler}, **endpoint.pattern.callback.initkwargs)

    def _find_own_place(
        self, endpoint: Endpoint, lookups: tuple[tuple[str, Any], ...]
    ) -> tuple[str, Mapping[str, Any]]:
        """The path below the mount, and the lookups as the URL's converters read them there."""
        quoted = self._resolver.reverse(endpoint.pattern.callback, **dict(lookups))
        path = unquote(quoted)
        match = endpoint.pattern.pattern.match(path)
        if match is None:
            raise NoReverseMatch(quoted)
        return path, match[2]

    def _find_http_place(
        self, endpoint: Endpoint, kwargs: tuple[tuple[str, Any], ...], urlconf: Any
    ) -> str | None:
        name = f"{self.namespace}:{endpoint.name}" if self.namespace else endpoint.name
        try:
            return unquote(reverse(name, kwargs=dict(kwargs)))
        except NoReverseMatch:
            return None

    def _own_match(self, endpoint: Endpoint, kwargs: Mapping[str, Any]) -> ResolverMatch:
        return ResolverMatch(
            endpoint.view,
            (),
            dict(kwargs),
            url_name=endpoint.name,
            namespaces=[self.namespace] if self.namespace else [],
            route=str(endpoint.pattern.pattern),
        )

    def _refuse(
        self,
        endpoint: Endpoint,
        verb: str,
        given: Mapping[str, Any],
        handshake: Handshake,
        refusal: Callable[[], Exception],
    ) -> Call:
        if endpoint.lookups <= given.keys():
            return self._located(endpoint, verb, given, handshake, refusal)
        return replace(self.call_at_mount(endpoint, verb, handshake), refusal=refusal)


def _is_worth_keeping(lookups: tuple[tuple[str, Any], ...]) -> bool:
    """Whether lookups are short enough to be remembered: a client may send any."""
    return all(
        (isinstance(value, str) and len(value) <= 64)
        or (isinstance(value, int) and value.bit_length() <= 64)
        or isinstance(value, UUID)
        for _, value in lookups
    )


def _endpoints(
    viewset: type[ViewSetMixin], prefix: str, basename: str, router: SimpleRouter
) -> list[Endpoint]:
    """What DRF's router makes of the viewset, each view atomic as `ATOMIC_REQUESTS` asks."""
    of_one = copy.copy(router)
    of_one.registry = [(prefix, viewset, basename)]
    handler = BaseHandler()
    return [
        Endpoint(pattern, handler.make_view_atomic(pattern.callback))
        for pattern in SimpleRouter.get_urls(of_one)
    ]


def _subscriptions(actions: Mapping[str, Endpoint]) -> dict[str, Endpoint]:
    """The subscriptions that a viewset with these actions offers, at the URLs of its own."""
    found = {}
    for subscription, action in SUBSCRIPTIONS.items():
        endpoint = actions.get(action)
        if endpoint is not None and subscription in _offered(endpoint.pattern.callback.cls):
            shown = endpoint.pattern
            view = shown.callback.cls.as_view({"get": subscription}, **shown.callback.initkwargs)
            pattern = URLPattern(shown.pattern, view, name=shown.name)
            found[subscription] = Endpoint(pattern, view, seen_action=action)
    return found


def _offered(viewset: Any) -> Iterable[str]:
    offers = getattr(viewset, "subscriptions", None)
    return offers() if offers is not None else ()


def _required(names: list[str]) -> ValidationError:
    message = Field.default_error_messages["required"]
    return ValidationError({name: [message] for name in names}, code="required")


def _usual_requests(router: SimpleRouter) -> dict[str, tuple[str, bool]]:
    """The verb of each of DRF's own actions, and whether it is one of a row."""
    return {
        action: (verb, route.detail)
        for route in router.routes
        if isinstance(route, Route)
        for verb, action in route.mapping.items()
    }


def _declared_query_keys(viewset: type[ViewSetMixin]) -> frozenset[str]:
    """The query keys that the viewset's paginator and filter backends declare."""
    backends = list(getattr(viewset, "filter_backends", []))
    if getattr(viewset, "pagination_class", None):
        backends.append(viewset.pagination_class)
    keys = {
        getattr(backend, name)
        for backend in backends
        for name in dir(backend)
        if name.endswith("_param") and isinstance(getattr(backend, name), str)
    }
    return frozenset(keys | _filterset_keys(viewset, backends))


def _filterset_keys(viewset: type[ViewSetMixin], backends: list[type]) -> set[str]:
    queryset = getattr(viewset, "queryset", None)
    keys: set[str] = set()
    for backend in backends:
        if not hasattr(backend, "get_filterset_class"):
            continue
        declares = getattr(viewset, "filterset_class", None) or queryset is not None
        filterset = backend().get_filterset_class(viewset(), queryset) if declares else None
        if filterset is not None:
            keys |= filterset.base_filters.keys()
    return keys
