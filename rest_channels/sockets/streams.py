"""
The actions that one registered viewset answers, each with the URL and the verbs DRF gives it.

The table is made once, when routes are built, from the URL patterns that DRF's own router makes for
the viewset; `Stream.call` looks up a frame in it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from typing import Any, Final
from urllib.parse import unquote
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponseBase
from django.urls import (
    NoReverseMatch,
    ResolverMatch,
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
from rest_framework.routers import SimpleRouter
from rest_framework.viewsets import ViewSetMixin

from rest_channels.live.topics import OPTION_KEYS
from rest_channels.observing.reports import FrameReport
from rest_channels.protocol import IDEMPOTENCY_KEY, PAYLOAD_KEYS, Frame, query_values
from rest_channels.sockets.endpoints import (
    SUBSCRIPTIONS,
    Endpoint,
    endpoints_of,
    subscription_endpoints,
    usual_requests,
)
from rest_channels.sockets.frame_hints import hints
from rest_channels.sockets.query_keys import declared_query_keys
from rest_channels.sockets.request import Call, Handshake

logger = logging.getLogger("rest_channels")

#: DCRF's names for two of DRF's actions.
ALIASES = {"patch": "partial_update", "delete": "destroy"}


# The number of rows of each stream whose paths are remembered: reversing one costs as much as a
# small query.
_MOST_PATHS: Final = 1024


class Stream:
    """
    One registered viewset on a socket.

    `prefix` is its registered prefix, and its name on a shared socket; `namespace` is the namespace
    under which the same router is included in Django's URLconf, if any.
    """

    #: Whether it takes part in the handshake: see `Connection.invite`.
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
        self.endpoints = endpoints_of(viewset, prefix, basename, router)
        if not self.endpoints:
            raise ImproperlyConfigured(
                f"{viewset.__name__} has no actions to route: add list(), retrieve(), ... "
                "or a method decorated with @action."
            )
        self.actions = {
            action: endpoint
            for endpoint in reversed(self.endpoints)
            for action in endpoint.mapping.values()
        }
        # A viewset's own actions of these names take precedence.
        self.actions = {**subscription_endpoints(self.actions), **self.actions}
        self._usual = usual_requests(router)
        self._authentication_view = viewset.as_view(
            {"post": "authenticate_socket"}, basename=basename, detail=False
        )
        self.max_in_flight: int = getattr(viewset, "max_in_flight", 1)
        self.query_keys = declared_query_keys(viewset)
        self._own_path_of = lru_cache(_MOST_PATHS)(self._find_own_path)
        self._http_path_of = lru_cache(_MOST_PATHS)(self._find_http_path)
        self._review_view = lru_cache(None)(self._find_review_view)
        patterns = {id(e): e.pattern for e in [*self.endpoints, *self.actions.values()]}
        self._resolver = URLResolver(RegexPattern(r"^/"), list(patterns.values()))

    def __repr__(self) -> str:
        return f"<Stream {self}>"

    def __str__(self) -> str:
        return f"{self.prefix}  ({self.viewset.__name__})"

    def read(
        self, payload: Any, max_request_id_chars: int, report: FrameReport | None = None
    ) -> Frame:
        """Return the frame in `payload`, with hints about misspelt keys. Raises `FrameError`."""
        frame = Frame.from_payload(
            payload,
            max_request_id_chars=max_request_id_chars,
            own_keys=self.own_keys,
            report=report,
        )
        if frame.rest and (found := hints(frame.rest, self._known_keys)):
            if settings.DEBUG:
                logger.warning("A frame to %s has keys without effect: %s", self, " ".join(found))
            frame = replace(frame, hints=found)
        return frame

    @cached_property
    def _known_keys(self) -> frozenset[str]:
        """Every key that has a meaning in a frame to this stream."""
        return PAYLOAD_KEYS | OPTION_KEYS | {"of", "pk", IDEMPOTENCY_KEY} | self.own_keys

    @cached_property
    def own_keys(self) -> frozenset[str]:
        """The names that the viewset declares: lookups of its URLs, and keys of its query."""
        lookups = frozenset().union(*(endpoint.lookups for endpoint in self.actions.values()))
        return self.query_keys | lookups

    def action_name(self, word: str) -> str:
        """Return the action that a frame names, by its own name or DCRF's."""
        return word if word in self.actions else ALIASES.get(word, word)

    def may_subscribe(self, payload: Any) -> bool:
        """Return whether `payload` asks for a subscription, or for an action that may begin one."""
        word = payload.get("action") if isinstance(payload, dict) else None
        if not isinstance(word, str) or word not in self.actions:
            return False
        return word in SUBSCRIPTIONS or word not in self._usual

    def verbs(self, action: str) -> list[str]:
        """Return the HTTP verbs that `action` declares, the default one first."""
        return self._verbs[action]

    @cached_property
    def _verbs(self) -> dict[str, list[str]]:
        return {
            action: [v for v, name in endpoint.mapping.items() if name == action and v != "head"]
            for action, endpoint in self.actions.items()
        }

    def call(self, frame: Frame, handshake: Handshake, *, is_row: bool) -> Call:
        """
        Find the view, verb, path and lookups for `frame`.

        `is_row`: the socket is a row's, which has only actions on that row. An unknown action
        becomes a call that is refused after authentication, permissions and throttles, so that a
        stranger gets 401 before 405. Raises `NoReverseMatch` for a lookup that does not fit the
        URL: over HTTP, such a page is a 404.
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
            # The action exists, so its own permissions decide who may learn what it needs.
            return replace(call, refused_action=action)
        return self._located(endpoint, verb, given, handshake)

    def watched_call(self, frame: Frame, handshake: Handshake, *, is_row: bool) -> Call:
        """
        Return the call of the action of `frame`, which a client watches.

        An action that GET does not reach is refused as an unknown one.
        """
        assert frame.action is not None, "a watch names an action"
        name = self.action_name(frame.action)
        found = self.actions.get(name)
        is_reached = found is not None and found.seen_action is None and "get" in self.verbs(name)
        if is_reached:
            return self.call(replace(frame, method="get"), handshake, is_row=is_row)
        nearest = next((e for e in self.endpoints if e.is_detail is is_row), self.endpoints[0])
        detail = {"of": ["Must be an action that GET reaches."]}
        refusal = partial(ValidationError, detail, code="invalid")
        return self._refuse(nearest, "get", self._lookups(frame, handshake), handshake, refusal)

    def authentication_call(self, handshake: Handshake) -> Call:
        """
        Return a call that passes the frame's credentials to this viewset's authentication classes.
        """
        call = self.call_at_mount(self.endpoints[0], "post", handshake)
        return replace(call, view=self._authentication_view, is_authentication=True)

    def call_at_mount(self, endpoint: Endpoint, verb: str, handshake: Handshake) -> Call:
        """Return a call of `endpoint` without its lookups, at the router's mount."""
        kwargs = dict(handshake.kwargs)
        match = partial(_own_match, self.namespace, endpoint, kwargs)
        return Call(endpoint.view, verb, handshake.mount, kwargs, own_match=match)

    def own_path(self, endpoint: Endpoint, handshake: Handshake, path: str) -> str:
        """Return the socket's own path of `endpoint`, whose URL is `path` below the mount."""
        return handshake.mount + path

    def review_call(self, call: Call, action: str | None, *, is_row: bool) -> Call:
        """Return a subscription's `call` for a review, which may run any number of times."""
        endpoint = self.actions[action] if action in self.actions else self.endpoints[0]
        view = self._review_view(endpoint, call.method, is_row)
        return replace(call, view=view, seen_action=action, is_review=True)

    def query(self, frame: Frame) -> Mapping[str, list[str]]:
        """
        Return the frame's query, with the top-level keys by which DCRF's clients page and filter.
        """
        names = frame.rest.keys() & self.query_keys
        if not names:
            return frame.query
        query = dict(frame.query)
        for name in names:
            query.setdefault(name, query_values(frame.rest[name]))
        return query

    def row_named(self, frame: Frame) -> Any:
        """Return the lookup by which `frame` names a row, as sent; None if it names none."""
        return frame.rest.get(self._lookup_url_kwarg or "pk", frame.rest.get("pk"))

    def _lookups(self, frame: Frame, handshake: Handshake) -> dict[str, Any]:
        """Return all known lookups by name. The URL's take precedence over the frame's."""
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
        """
        Return the endpoint that `metadata` describes: the row if one is named, else the collection.
        """
        candidates = [e for e in self.endpoints if e.lookups <= given.keys()] or self.endpoints
        rows = [e for e in candidates if e.is_detail]
        names_row = is_row or self._lookup_url_kwarg in given
        return rows[0] if rows and names_row else candidates[0]

    def _absent(
        self, word: str, given: Mapping[str, Any], handshake: Handshake, is_row: bool
    ) -> Call:
        """
        Return a call that refuses an unknown action.

        DRF's own actions are refused as over HTTP: by their verb, at the page where they would be.
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
        # The URL's lookups have passed its converters already.
        lookups = tuple(
            (name, given[name] if name in handshake.kwargs else endpoint.read(name, given[name]))
            for name in sorted(endpoint.lookups)
        )
        find = self._own_path_of if _is_worth_keeping(lookups) else self._find_own_path
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
            self.own_path(endpoint, handshake, own_path),
            kwargs,
            own_match=partial(_own_match, self.namespace, endpoint, kwargs),
            refusal=refusal,
            seen_action=endpoint.seen_action,
        )

    def _http_path(self, endpoint: Endpoint, kwargs: Mapping[str, Any]) -> str | None:
        """
        Return the path of the same endpoint in Django's URLconf, so that links are those of HTTP.
        """
        if not getattr(settings, "ROOT_URLCONF", None):
            return None
        # Everything that decides the answer: Django makes another resolver for another URLconf.
        urlconf = get_resolver(get_urlconf()), get_script_prefix(), get_language()
        pairs = tuple(sorted(kwargs.items()))
        find = self._http_path_of if _is_worth_keeping(pairs) else self._find_http_path
        return find(endpoint, pairs, urlconf)

    def _find_review_view(
        self, endpoint: Endpoint, verb: str, is_row: bool
    ) -> Callable[..., HttpResponseBase]:
        handler = "review_row" if is_row else "review_collection"
        initkwargs = endpoint.pattern.callback.initkwargs
        view: Callable[..., HttpResponseBase] = self.viewset.as_view({verb: handler}, **initkwargs)
        return view

    def _find_own_path(
        self, endpoint: Endpoint, lookups: tuple[tuple[str, Any], ...]
    ) -> tuple[str, Mapping[str, Any]]:
        """
        Return the path below the mount, and the lookups as the URL's converters read them there.
        """
        quoted = self._resolver.reverse(endpoint.pattern.callback, **dict(lookups))
        path = unquote(quoted)
        match = endpoint.pattern.pattern.match(path)
        if match is None:
            raise NoReverseMatch(quoted)
        return path, match[2]

    def _find_http_path(
        self, endpoint: Endpoint, kwargs: tuple[tuple[str, Any], ...], urlconf: Any
    ) -> str | None:
        name = f"{self.namespace}:{endpoint.name}" if self.namespace else endpoint.name
        try:
            return unquote(reverse(name, kwargs=dict(kwargs)))
        except NoReverseMatch:
            return None

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


def _own_match(
    namespace: str | None, endpoint: Endpoint, kwargs: Mapping[str, Any]
) -> ResolverMatch:
    return ResolverMatch(
        endpoint.view,
        (),
        dict(kwargs),
        url_name=endpoint.name,
        namespaces=[namespace] if namespace else [],
        route=str(endpoint.pattern.pattern),
    )


def _is_worth_keeping(lookups: tuple[tuple[str, Any], ...]) -> bool:
    """Return whether lookups are short enough to be remembered: a client may send any."""
    return all(
        (isinstance(value, str) and len(value) <= 64)
        or (isinstance(value, int) and value.bit_length() <= 64)
        or isinstance(value, UUID)
        for _, value in lookups
    )


def _required(names: list[str]) -> ValidationError:
    message = Field.default_error_messages["required"]
    return ValidationError({name: [message] for name in names}, code="required")
