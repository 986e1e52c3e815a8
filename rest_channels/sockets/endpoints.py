"""The URLs of a viewset, as DRF's router makes them, with the views behind them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from django.core.handlers.base import BaseHandler
from django.http import HttpResponseBase
from django.urls import NoReverseMatch, URLPattern
from rest_framework.routers import Route, SimpleRouter
from rest_framework.viewsets import ViewSetMixin

#: Subscriptions, and the actions that give them URLs, permissions and querysets.
SUBSCRIPTIONS: Final = {"subscribe": "list", "subscribe_instance": "retrieve"}


@dataclass(frozen=True, eq=False)
class Endpoint:
    """One URL of a viewset as DRF's router made it, with the view behind it."""

    pattern: URLPattern
    view: Callable[..., HttpResponseBase]
    seen_action: str | None = None

    @property
    def name(self) -> str:
        name: str = self.pattern.name
        return name

    @property
    def mapping(self) -> Mapping[str, str]:
        """Verbs to actions, in the order of their declaration."""
        actions: Mapping[str, str] = self.pattern.callback.actions
        return actions

    @property
    def is_detail(self) -> bool:
        return bool(self.pattern.callback.initkwargs["detail"])

    def read(self, name: str, value: str | int) -> Any:
        """Return a frame's lookup as the URL's converter would read it. Raises `NoReverseMatch`."""
        if "\0" in str(value):
            # No text in a database contains it, and PostgreSQL refuses to search for it.
            raise NoReverseMatch(f"{name}={value!r}")
        converter = self.pattern.pattern.converters.get(name)
        if converter is None:
            return value
        text = str(value)
        if re.fullmatch(converter.regex, text):
            # A converter raises it if the URL is not one of its own after all.
            with suppress(ValueError):
                return converter.to_python(text)
        raise NoReverseMatch(f"{name}={text!r}")

    @cached_property
    def lookups(self) -> frozenset[str]:
        """The names that the URL captures: the lookups that a frame may give."""
        return frozenset(self.pattern.pattern.regex.groupindex)


def endpoints_of(
    viewset: type[ViewSetMixin], prefix: str, basename: str, router: SimpleRouter
) -> list[Endpoint]:
    """Return the endpoints that DRF's router makes, each view atomic as `ATOMIC_REQUESTS` asks."""
    of_one = copy.copy(router)
    of_one.registry = [(prefix, viewset, basename)]
    handler = BaseHandler()
    return [
        Endpoint(pattern, handler.make_view_atomic(pattern.callback))
        for pattern in SimpleRouter.get_urls(of_one)
    ]


def subscription_endpoints(actions: Mapping[str, Endpoint]) -> dict[str, Endpoint]:
    """Return the subscriptions that a viewset with these actions offers, at the actions' URLs."""
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


def usual_requests(router: SimpleRouter) -> dict[str, tuple[str, bool]]:
    """Return the verb of each of DRF's own actions, and whether it is one of a row."""
    return {
        action: (verb, route.detail)
        for route in router.routes
        if isinstance(route, Route)
        for verb, action in route.mapping.items()
    }
