"""System checks of streams: ambiguous basenames, and viewsets that cannot read or write JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from django.core.checks import CheckMessage, Warning
from rest_framework.settings import api_settings

from rest_channels.sockets.streams import Stream


def check_basenames(streams: list[Stream]) -> Iterator[CheckMessage]:
    """Yield W006."""
    by_name = defaultdict(list)
    for stream in streams:
        by_name[stream.namespace, stream.basename].append(stream)
    for (_, basename), same in by_name.items():
        # The same viewset under two paths leads to the same pages.
        if len({(s.viewset.__module__, s.viewset.__qualname__) for s in same}) > 1:
            prefixes = ", ".join(repr(stream.prefix) for stream in same)
            yield Warning(
                f"The streams {prefixes} have the same basename {basename!r}: links between them "
                "are ambiguous.",
                hint="Give one of them another basename: register(prefix, viewset, "
                "basename='...').",
                id="rest_channels.W006",
            )


def check_renderers(streams: list[Stream]) -> Iterator[CheckMessage]:
    """Yield W007."""
    for obj, where, name in _without(
        streams,
        "renderer_classes",
        lambda renderer: "json" in (renderer.media_type or ""),
    ):
        yield Warning(
            f"{name} has no renderer for JSON: sockets would send its data as text, such as the "
            "browsable API's HTML.",
            hint=f"Add rest_framework.renderers.JSONRenderer to {where}.",
            obj=obj,
            id="rest_channels.W007",
        )


def check_parsers(streams: list[Stream]) -> Iterator[CheckMessage]:
    """Yield W008."""
    for obj, where, name in _without(
        streams,
        "parser_classes",
        lambda parser: "json" in parser.media_type or parser.media_type == "*/*",
    ):
        yield Warning(
            f"{name} has no parser for JSON: sockets would refuse all its data with 415.",
            hint=f"Add rest_framework.parsers.JSONParser to {where}.",
            obj=obj,
            id="rest_channels.W008",
        )


def _without(
    streams: list[Stream], attribute: str, serves: Callable[[Any], bool]
) -> Iterator[tuple[Any, str, str]]:
    """
    Yield each object without a class in `attribute` that `serves`, where to add one, and its name.

    REST_FRAMEWORK's defaults lack JSON if they list forms and the browsable API alone. They are
    yielded once, with all viewsets that rely on them.
    """
    setting = f"REST_FRAMEWORK['DEFAULT_{attribute.upper()}']"
    defaults = list(getattr(api_settings, f"DEFAULT_{attribute.upper()}"))
    relying = []
    for viewset in {stream.viewset: None for stream in streams}:
        classes = list(getattr(viewset, attribute))
        if any(serves(item) for item in classes):
            continue
        if classes == defaults:
            relying.append(viewset.__name__)
        else:
            yield viewset, f"its {attribute}", viewset.__name__
    if relying:
        yield None, setting, f"{setting} (used by {', '.join(relying)})"
