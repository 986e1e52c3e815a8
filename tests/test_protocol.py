"""The wire: what is a frame, what is none, and what a reply looks like."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rest_channels.exceptions import FrameError
from rest_channels.protocol import MISSING, Frame, Reply, decode

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
# JSON's alphabet, so that arbitrary text is often nearly JSON.
nearly_json = st.text(st.sampled_from('{}[]":,\\/ud89aDFf0123456789.eE+-truefalsnINity \n\t\x00é'))


def refused(text, max_depth=32):
    with pytest.raises(FrameError) as caught:
        decode(text, max_depth=max_depth)
    return caught.value.detail


def wrong(**payload):
    with pytest.raises(FrameError) as caught:
        Frame.from_payload({"action": "list", **payload})
    return caught.value


# decode


@given(values)
def test_what_is_json_is_read(value):
    text = json.dumps(value, allow_nan=True)
    try:
        json.loads(text, parse_constant=lambda name: 1 / 0)
    except ZeroDivisionError:
        refused(text)
    else:
        assert decode(text, max_depth=100) == json.loads(text)


@given(st.text() | nearly_json)
@example("[" * 100_000)
@example('{"a":' * 100_000)
@example("9" * 5_000)
@example("-" + "9" * 4_300)
@example("1e" + "9" * 5_000)
@example('"\\ud800"')
@example('"\\ud83d\\ude00"')
@example('{"\\ud800": 1}')
@example("\ufeff{}")
@example("")
def test_any_text_is_read_as_json_reads_it_or_refused(text):
    try:
        value = decode(text, max_depth=32)
    except FrameError:
        return
    assert value == json.loads(text)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", '{"data": [NaN]}', '{"a":NaN}'])
def test_no_nan_and_no_infinities(text):
    assert refused(text) == "NaN and infinities are not JSON."


@pytest.mark.parametrize("text", ["1e999", "-1e999", "[1.5, 1e400]", '{"a": 1E309}'])
def test_no_number_that_becomes_infinite(text):
    assert refused(text) == "A number is too large."


def test_the_largest_and_the_smallest_floats_pass():
    assert decode("[1.7976931348623157e308, 5e-324, 1e-999, -0.0]", max_depth=1) == [
        1.7976931348623157e308,
        5e-324,
        0.0,
        -0.0,
    ]


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', '{"a": 1, "\\u0061": 1}', '[{"b": {"": 0, "": 0}}]']
)
def test_no_key_twice(text):
    assert refused(text) == "A frame must not repeat a key within one object."


def test_one_key_in_two_objects():
    assert decode('[{"a": 1}, {"a": {"a": 2}}]', max_depth=3) == [{"a": 1}, {"a": {"a": 2}}]


@pytest.mark.parametrize("opening,closing", ["[]", ('{"a":', "}")])
def test_depth(opening, closing):
    assert decode(opening * 3 + "1" + closing * 3, max_depth=3)
    assert refused(opening * 4 + "1" + closing * 4, max_depth=3) == (
        "A frame must not nest more than 3 arrays and objects."
    )


def test_depth_is_of_the_deepest_branch():
    assert refused('[1, {"a": "x", "b": [[]]}, []]', max_depth=3)
    assert decode('[1, {"a": "x", "b": []}, []]', max_depth=3)


def test_brackets_in_text_are_no_depth():
    assert decode('["[[[[{{{{"]', max_depth=1) == ["[[[[{{{{"]


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
def test_a_bomb_of_brackets(opening):
    assert refused(opening * 200_000) == "A frame must not nest more than 32 arrays and objects."


def test_integers_of_any_size_that_python_reads():
    digits = "7" * 4_300
    assert decode(digits, max_depth=1) == int(digits)
    assert refused(digits + "7") == "A frame must be valid JSON."


@pytest.mark.parametrize("half", ["\\ud800", "\\udfff", "\\uD83D", "\\ude00\\ud83d", "x\\udC00y"])
@pytest.mark.parametrize("text", ['"{}"', '{{"{}": 1}}', '{{"a": ["{}"]}}'])
def test_no_half_of_a_surrogate_pair(text, half):
    assert "surrogate" in refused(text.format(half))


def test_whole_pairs_and_what_only_looks_like_a_half():
    assert decode('["\\ud83d\\ude00", "\\\\ud800", "\\u00e9"]', max_depth=1) == [
        "\U0001f600",
        "\\ud800",
        "\u00e9",
    ]


@pytest.mark.parametrize(
    "text", ["", " ", "{", "{'a': 1}", "[1,]", "undefined", "01", "1 2", "\x00"]
)
def test_what_is_no_json(text):
    assert refused(text) == "A frame must be valid JSON."


# Frame.from_payload


@pytest.mark.parametrize("payload", [None, True, 1, 1.5, "list", [], [{"action": "list"}]])
def test_a_frame_is_an_object(payload):
    with pytest.raises(FrameError, match="object") as caught:
        Frame.from_payload(payload)
    assert (caught.value.action, caught.value.request_id) == (None, None)


@pytest.mark.parametrize("action", [None, "", 1, True, [], {}, ["list"], "x" * 129])
def test_an_action_is_a_short_string(action):
    error = wrong(action=action, request_id=7)
    assert (error.action, error.request_id) == (None, 7)


def test_an_action_is_required():
    with pytest.raises(FrameError, match="'action' is required"):
        Frame.from_payload({"request_id": 1})


def test_an_action_of_128_characters():
    assert Frame.from_payload({"action": "x" * 128}).action == "x" * 128


@pytest.mark.parametrize("request_id", [True, False, 1.0, [], {}, "x" * 129, 10**200])
def test_a_request_id_is_a_short_string_or_an_integer(request_id):
    error = wrong(request_id=request_id)
    assert (error.action, error.request_id) == ("list", None)


@pytest.mark.parametrize("request_id", [0, -1, 2**64, "", "1", "x" * 128, "\x00", None])
def test_a_request_id_is_kept_as_it_is(request_id):
    read = Frame.from_payload({"action": "list", "request_id": request_id}).request_id
    assert (type(read), read) == (type(request_id), request_id)


def test_where_both_are_wrong_neither_is_echoed():
    error = wrong(action=["list"], request_id=True)
    assert (error.action, error.request_id) == (None, None)


def test_data_may_be_anything_and_null_is_not_nothing():
    assert Frame.from_payload({"action": "create"}).data is MISSING
    assert Frame.from_payload({"action": "create", "data": None}).data is None
    assert Frame.from_payload({"action": "create", "data": [1]}).data == [1]


def test_query_is_what_a_query_string_would_say():
    query = {"a": 1, "b": "x", "c": True, "d": None, "e": [1, False, "y"], "f": [], "g": 1.5}
    assert Frame.from_payload({"action": "list", "query": query}).query == {
        "a": ["1"],
        "b": ["x"],
        "c": ["true"],
        "d": [""],
        "e": ["1", "false", "y"],
        "f": [],
        "g": ["1.5"],
    }


@pytest.mark.parametrize("query", [None, 1, "a=1", ["a"], {"a": {}}, {"a": [[]]}, {"a": [{}]}])
def test_what_is_no_query(query):
    error = wrong(query=query, request_id="r")
    assert "'query'" in error.detail
    assert (error.action, error.request_id) == ("list", "r")


def test_only_some_headers_count_whatever_their_case():
    headers = {
        "Authorization": "Token 1",
        "ACCEPT": "text/html",
        "accept-language": "de",
        "cookie": "sessionid=stolen",
        "host": "elsewhere",
        "x-forwarded-for": "127.0.0.1\n",
        "": "",
    }
    assert Frame.from_payload({"action": "list", "headers": headers}).headers == {
        "authorization": "Token 1",
        "accept": "text/html",
        "accept-language": "de",
    }


@pytest.mark.parametrize(
    "headers",
    [
        None,
        [],
        "accept: x",
        {"accept": 1},
        {"cookie": None},
        {"accept": ["x"]},
        {"authorization": "a\r\nCookie: b"},
        {"authorization": "a\x00"},
        {"authorization": "a\x7f"},
        {"accept": "\u0100"},
    ],
)
def test_what_are_no_headers(headers):
    error = wrong(headers=headers, request_id="r")
    assert (error.action, error.request_id) == ("list", "r")


def test_a_header_may_hold_tabs_and_latin_1():
    frame = Frame.from_payload({"action": "list", "headers": {"accept": "a\t\u00ff"}})
    assert frame.headers == {"accept": "a\t\u00ff"}


@pytest.mark.parametrize("method", [1, True, [], "", "GET ", "G\u00c9T", "get\r\n", "x" * 17])
def test_what_is_no_method(method):
    assert "'method'" in wrong(method=method).detail


def test_a_method_of_any_case_or_none():
    assert Frame.from_payload({"action": "a", "method": "PuT"}).method == "put"
    assert Frame.from_payload({"action": "a", "method": None}).method is None


def test_all_other_keys_are_kept_apart():
    frame = Frame.from_payload({"action": "a", "pk": 1, "self": 2, "__class__": {}, "rest": []})
    assert frame.rest == {"pk": 1, "self": 2, "__class__": {}, "rest": []}


keys = st.sampled_from(["action", "request_id", "data", "query", "headers", "method"]) | st.text()


@given(st.dictionaries(keys, values, max_size=6) | values)
def test_any_payload_is_a_frame_or_refused_with_what_could_be_read(payload):
    try:
        frame = Frame.from_payload(payload)
    except FrameError as error:
        assert error.action is None or error.action == payload["action"]
        assert error.request_id is None or error.request_id == payload["request_id"]
    else:
        assert frame.action == payload["action"]
        assert frame.request_id == payload.get("request_id")


# Reply


@given(data=values, errors=values, action=st.text(), stream=st.text() | st.none())
def test_a_reply_carries_any_data_in_any_envelope(data, errors, action, stream):
    reply = Reply(
        200, json.dumps(data), json.dumps(errors), action=action, request_id=action, headers={}
    )
    payload = {
        "errors": errors,
        "data": data,
        "action": action,
        "response_status": 200,
        "request_id": action,
    }
    assert json.loads(reply.encode()) == payload
    assert json.loads(reply.encode(stream)) == {"stream": stream, "payload": payload}


def test_codes_and_headers_only_where_there_are_any():
    assert set(json.loads(Reply(204).encode())) == {
        "errors",
        "data",
        "action",
        "response_status",
        "request_id",
    }
    reply = json.loads(
        Reply.error(429, "Slow.", "throttled", headers={"Retry-After": "1"}).encode()
    )
    assert reply["headers"] == {"Retry-After": "1"}
    assert (reply["errors"], reply["codes"], reply["data"]) == (["Slow."], ["throttled"], None)


@pytest.mark.parametrize("request_id", [1, "1", 0, "", None, -(2**70)])
def test_an_error_echoes_the_id_with_its_type(request_id):
    frame = Frame("list", request_id=request_id)
    echoed = json.loads(Reply.error(400, "No.", "no", to=frame).encode())["request_id"]
    assert (type(echoed), echoed) == (type(request_id), request_id)


def test_a_refusal_says_what_was_wrong_and_with_what():
    error = FrameError("No.", action="list", request_id=3)
    assert json.loads(Reply.refusal(error).encode()) == {
        "errors": ["No."],
        "codes": ["parse_error"],
        "data": None,
        "action": "list",
        "response_status": 400,
        "request_id": 3,
    }
