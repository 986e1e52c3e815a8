"""
DRF's response as a `Reply`: the renderer's own text, spliced, not encoded again.
"""

from __future__ import annotations

import base64
import json
import logging
from typing import Any, Final

from django.conf import settings
from django.core import signals
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpResponseBase
from django.template.response import SimpleTemplateResponse
from rest_framework.exceptions import APIException, ErrorDetail
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder
from rest_framework.views import exception_handler

from rest_channels.faults import reply_to_fault
from rest_channels.protocol import Frame, Reply
from rest_channels.request import MessageRequest

logger = logging.getLogger("rest_channels")

#: nginx's number for a client that closed its request before the answer.
CLIENT_CLOSED_REQUEST: Final = 499

# RFC 9110: whatever the view says, an HTTP server sends no body with them.
_BODYLESS = frozenset({204, 304})

# Every DRF response carries them; they say nothing about this one.
_USUAL_HEADERS = frozenset({"allow", "vary", "content-type", "content-length"})


def reply_to(frame: Frame, response: HttpResponseBase) -> Reply:
    """
    The reply that carries `response`, rendered by the renderer DRF negotiated.

    From status 400 on, the response's data are errors: `data` is null then.
    """
    failed = response.status_code >= 400
    codes = None
    if failed and isinstance(response, Response):
        codes = _codes(_error_list(response.data))
    if isinstance(response, SimpleTemplateResponse):
        # DRF's own are such as well.
        response = response.render()
    text = _json_text(response)
    return Reply(
        response.status_code,
        data="null" if failed else text,
        errors=json.dumps(_error_list(json.loads(text))) if failed else "[]",
        codes=json.dumps(codes) if codes else None,
        headers=_notable_headers(response),
        action=frame.action,
        request_id=frame.request_id,
    )


def reply_to_crash(frame: Frame, request: MessageRequest | None, exc: BaseException) -> Reply:
    """
    The reply to an exception that DRF's handler left alone: the status Django would give.

    A server error is logged once, with its traceback and the opaque id that the client is shown.
    SystemExit is one: the server is not an action's to end. Raises it again under
    `DEBUG_PROPAGATE_EXCEPTIONS`, as Django does.
    """
    match exc:
        case KeyboardInterrupt():
            raise exc
        case Http404():
            return Reply.error(404, "Not found.", "not_found", to=frame)
        case PermissionDenied():
            detail = "You do not have permission to perform this action."
            return Reply.error(403, detail, "permission_denied", to=frame)
        case BadRequest() | SuspiciousOperation():
            logger.warning("Bad request: %s", exc, extra={"request": request, "status_code": 400})
            return Reply.error(400, "Bad request.", "bad_request", to=frame)
    signals.got_request_exception.send(sender=MessageRequest, request=request)
    if settings.DEBUG_PROPAGATE_EXCEPTIONS:
        raise exc
    unavailable = isinstance(exc, (OperationalError, InterfaceError))
    return reply_to_fault(
        exc,
        "%s while answering %r",
        "Database unavailable" if unavailable else "Server error",
        frame.action,
        to=frame,
        status=503 if unavailable else 500,
        request=request,
    )


def reply_to_exception(frame: Frame, exc: APIException) -> Reply:
    """The reply to one of DRF's exceptions that was raised where no view handles it."""
    response = exception_handler(exc, {})
    assert response is not None, "DRF handles its own exceptions"
    errors = _error_list(response.data)
    codes = _codes(errors)
    return Reply(
        response.status_code,
        errors=json.dumps(errors, cls=JSONEncoder),
        codes=json.dumps(codes) if codes else None,
        headers=dict(response.items()) or None,
        action=frame.action,
        request_id=frame.request_id,
    )


def reply_to_cancel(frame: Frame) -> Reply:
    """The reply to a frame whose client cancelled it."""
    return Reply.error(CLIENT_CLOSED_REQUEST, "The request was cancelled.", "cancelled", to=frame)


def _error_list(data: Any) -> list[Any]:
    if data is None:
        return []
    if isinstance(data, list):
        return data
    if isinstance(data, dict) and data.keys() == {"detail"} and isinstance(data["detail"], str):
        # How DRF's exception handler wraps a string detail; DCRF's wire shows the string.
        return [data["detail"]]
    return [data]


def _codes(errors: Any) -> Any:
    """DRF's error codes in the shape of `errors`; None where it holds none."""
    match errors:
        case ErrorDetail():
            return errors.code
        case dict():
            by_name = {name: _codes(item) for name, item in errors.items()}
            return {name: codes for name, codes in by_name.items() if codes is not None} or None
        case list() | tuple():
            # What is right in a list of many stands as {}: the shape keeps its place.
            in_place = [_codes(item) for item in errors]
            return [codes or {} for codes in in_place] if any(in_place) else None
    return None


def _json_text(response: HttpResponseBase) -> str:
    content = _content(response)
    if not content or response.status_code in _BODYLESS:
        return "null"
    if _is_json(response):
        text = content.decode()
        if not _is_strict(response):
            json.loads(text, parse_constant=_refuse_constant)
        return text
    try:
        return json.dumps(content.decode(response.charset))
    except UnicodeDecodeError:
        response["Content-Transfer-Encoding"] = "base64"
        return json.dumps(base64.b64encode(content).decode())


def _is_strict(response: HttpResponseBase) -> bool:
    """Whether DRF wrote the JSON, whose text needs no proof before it becomes part of a frame."""
    renderer: Any = getattr(response, "accepted_renderer", None)
    return type(renderer) is JSONRenderer and renderer.strict


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"The response holds {name}, which is not JSON.")


def _content(response: HttpResponseBase) -> bytes:
    if not response.streaming:
        return response.content
    try:
        return b"".join(response)
    finally:
        # Files and the like. Not close(): it says that an HTTP request has finished.
        for close in response._resource_closers:
            close()


def _notable_headers(response: HttpResponseBase) -> dict[str, str] | None:
    usual = _USUAL_HEADERS
    if response.status_code == 405:
        usual = usual - {"allow"}
    if not _is_json(response):
        usual = usual - {"content-type"}
    return {name: value for name, value in response.items() if name.lower() not in usual} or None


def _is_json(response: HttpResponseBase) -> bool:
    media_type = response.get("Content-Type", "").partition(";")[0].strip().lower()
    return media_type in ("", "application/json") or media_type.endswith("+json")


def rendered(view: Any, data: Any) -> str:
    """JSON text of `data`, by the renderer that DRF negotiated for `view`."""
    renderer, media_type = view.request.accepted_renderer, view.request.accepted_media_type
    content = renderer.render(data, media_type, view.get_renderer_context())
    text = content.decode() if isinstance(content, bytes) else content
    if type(renderer) is JSONRenderer and renderer.strict:
        return text
    if "json" in media_type.partition(";")[0]:
        json.loads(text, parse_constant=_refuse_constant)
        return text
    return json.dumps(text)
