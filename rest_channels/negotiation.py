"""
DRF's content negotiation, which remembers what it chose.

Over a socket, frame after frame offers the same `Accept` to the same renderers.
"""

from __future__ import annotations

from typing import Any, Final

from rest_framework.negotiation import BaseContentNegotiation, DefaultContentNegotiation

# A client may send any header: so many choices are remembered, of headers up to so long.
_CHOICES: Final = 1024
_HEADER_CHARS: Final = 256


class RememberingNegotiation(DefaultContentNegotiation):
    """DRF's own class, with all that its answer depends on as the key to answers given before."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        """The parser for the request's content type; None where there is none."""
        media_types = tuple(parser.media_type for parser in parsers)
        key = (request.content_type, media_types)
        if (place := _parsers.get(key)) is None:
            parser = super().select_parser(request, parsers)
            if parser is not None:
                _remember(_parsers, key, parsers.index(parser))
            return parser
        return parsers[place]

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        """A renderer and the media type it is to write. Raises `NotAcceptable` or `Http404`."""
        wanted = format_suffix or request.query_params.get(self.settings.URL_FORMAT_OVERRIDE)
        offered = tuple((renderer.media_type, renderer.format) for renderer in renderers)
        key = (request._request.META.get("HTTP_ACCEPT"), wanted, offered)
        if (choice := _renderers.get(key)) is None:
            renderer, media_type = super().select_renderer(request, renderers, format_suffix)
            _remember(_renderers, key, (renderers.index(renderer), media_type))
            return renderer, media_type
        place, media_type = choice
        return renderers[place], media_type


def remembering(negotiator: BaseContentNegotiation) -> BaseContentNegotiation:
    """`negotiator`, or one in its place where it is DRF's own, as DRF makes it."""
    if type(negotiator) is DefaultContentNegotiation and not vars(negotiator):
        return RememberingNegotiation()
    return negotiator


_parsers: dict[Any, int] = {}
_renderers: dict[Any, tuple[int, str]] = {}


def _remember(choices: dict[Any, Any], key: Any, choice: Any) -> None:
    if len(key[0] or "") > _HEADER_CHARS:
        return
    if len(choices) >= _CHOICES:
        choices.clear()
    choices[key] = choice
