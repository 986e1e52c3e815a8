"""Faults: the log has the traceback, the client its id."""

from __future__ import annotations

import json
import re

from rest_channels.protocol import Frame, Reply
from rest_channels.sockets.response import reply_to_fault


def fault(caplog, **keys):
    """The one log record, and the reply as the client reads it."""
    try:
        raise ValueError("secret")
    except ValueError as exc:
        reply = reply_to_fault(exc, "Failed to %s %r", "do", "this", **keys)
    (record,) = caplog.records
    return record, json.loads(reply.encode())


def test_the_log_tells_all_and_the_client_the_id(caplog):
    record, reply = fault(caplog, to=Frame("list", request_id=7))
    assert re.fullmatch("[0-9a-f]{32}", record.error_id)
    assert record.getMessage() == f"Failed to do 'this' (error {record.error_id})"
    assert (record.name, record.levelname) == ("rest_channels", "ERROR")
    assert str(record.exc_info[1]) == "secret"
    assert reply == {
        "errors": [f"Server error (error {record.error_id})."],
        "codes": ["error"],
        "data": None,
        "action": "list",
        "response_status": 500,
        "request_id": 7,
    }


def test_a_fault_that_may_pass_says_so(caplog):
    record, reply = fault(caplog, to=Reply(200, action="list", request_id=8), status=503)
    detail = f"Service unavailable, try again later (error {record.error_id})."
    assert (reply["errors"], reply["codes"]) == ([detail], ["unavailable"])
    assert (reply["response_status"], record.status_code) == (503, 503)
    assert (reply["action"], reply["request_id"]) == ("list", 8)


def test_the_record_says_where_and_what_else_is_known(caplog):
    record, reply = fault(caplog, to=None, request="the request")
    assert (record.request, record.status_code) == ("the request", 500)
    assert record.funcName == "fault"
    assert reply["request_id"] is None


def test_no_two_faults_share_an_id(caplog):
    replies = {reply_to_fault(ValueError(), "Failed", to=None).errors for _ in range(2)}
    assert len(replies) == 2
