"""Long lists are encoded in batches, and their text is DRF's own to the byte."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder
from rest_framework.utils.serializer_helpers import ReturnList

from rest_channels.protocol import Frame
from rest_channels.sockets.list_encoding import ROWS_AT_A_TIME
from rest_channels.sockets.response import reply_to

ROWS = [
    {"id": n, "text": "00 [], \u2028 é \n", "at": datetime(2026, 1, 1, tzinfo=UTC), "of": [0, [n]]}
    for n in range(2 * ROWS_AT_A_TIME + 1)
]


def response_of(data, renderer=None, media_type="application/json"):
    response = Response(data)
    response.accepted_renderer = renderer or JSONRenderer()
    response.accepted_media_type = media_type
    response.renderer_context = {}
    return response


def text_of(response):
    return reply_to(Frame(action="list"), response).data


@pytest.fixture
def lengths(monkeypatch):
    """The lengths of lists that DRF encodes in one call."""
    found = []
    encode = JSONEncoder.encode

    def counting(self, data):
        found.append(len(data))
        return encode(self, data)

    monkeypatch.setattr(JSONEncoder, "encode", counting)
    return found


def test_no_call_of_the_encoder_has_more_than_a_batch(lengths):
    text_of(response_of(ROWS))
    assert lengths == [2, ROWS_AT_A_TIME, ROWS_AT_A_TIME, 1]


@pytest.mark.parametrize("media_type", ["application/json", "application/json; indent=4"])
@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_the_text_is_the_same_to_the_byte(monkeypatch, media_type, compact, ascii_only):
    monkeypatch.setattr(JSONRenderer, "compact", compact)
    monkeypatch.setattr(JSONRenderer, "ensure_ascii", ascii_only)
    expected = JSONRenderer().render(ROWS, media_type).decode()
    assert text_of(response_of(ReturnList(ROWS, serializer=None), None, media_type)) == expected


class Wrapping(JSONRenderer):
    def render(self, data, *args):
        return super().render({"rows": data}, *args)


class OfWholeText(JSONEncoder):
    def encode(self, data):
        return f"[{len(data)}, {super().encode(data)}]"


class Own(JSONRenderer):
    encoder_class = OfWholeText


@pytest.mark.parametrize("kind", [Wrapping, Own])
def test_a_projects_own_renderer_gets_the_whole_list(kind):
    expected = kind().render(ROWS).decode()
    assert text_of(response_of(ROWS, kind())) == expected


def test_so_does_an_encoder_that_replaces_that_of_drf(monkeypatch):
    monkeypatch.setattr(JSONRenderer, "encoder_class", OfWholeText)
    assert text_of(response_of(ROWS)).startswith(f"[{len(ROWS)}, [")


@pytest.mark.parametrize("data", [{"results": ROWS}, ROWS[:ROWS_AT_A_TIME], "text"])
def test_other_data_are_encoded_at_once(lengths, data):
    text_of(response_of(data))
    assert lengths == [len(data)]


def test_the_response_has_its_own_renderer_again():
    response = response_of([*ROWS, object()])
    renderer = response.accepted_renderer
    with pytest.raises(TypeError, match="not JSON serializable"):
        text_of(response)
    assert response.accepted_renderer is renderer
