"""
DRF's response as a `Reply`: the renderer's own text, inserted without encoding it again.

A server error is logged once, with the traceback; its reply carries an opaque id.
"""

from __future__ import annotations

import base64
import json
import logging
import uuid
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final

from django.conf import settings
from django.core import signals
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpResponseBase
from django.template.response import SimpleTemplateResponse
from rest_framework.exceptions import APIException, ErrorDetail
from rest_framework.renderers import JSONRenderer
from rest_framework.utils.encoders import JSONEncoder
from rest_framework.views import exception_handler

from rest_channels.protocol import Frame, Reply
from rest_channels.sockets.list_encoding import in_batches
from rest_channels.sockets.ratelimit import retry_headers
from rest_channels.sockets.request import MessageRequest

logger = logging.getLogger("rest_channels")

#: nginx's status for a client that closed its request before the answer.
CLIENT_CLOSED_REQUEST: Final = 499

# RFC 9110: an HTTP server sends no body with them, whatever the view returns.
_BODYLESS = frozenset({204, 304})

# Every DRF response carries them, so they say nothing about this one.
_USUAL_HEADERS = frozenset({"allow", "vary", "content-type", "content-length"})


def reply_to(frame: Frame, response: HttpResponseBase) -> Reply:
    """
    Return the reply that carries `response`, rendered by the renderer DRF negotiated.

    From status 400 on, the response's data are errors: `data` is null then.
    """
    failed = response.status_code >= 400
    if isinstance(response, SimpleTemplateResponse):
        # DRF's own responses, too.
        with in_batches(response):
            response = response.render()
    text = _json_text(response)
    errors, codes = "[]", None
    if failed:
        errors, codes = _errors(json.loads(text), getattr(response, "data", None))
    return Reply(
        response.status_code,
        data="null" if failed else text,
        errors=errors,
        codes=codes,
        headers=_notable_headers(response),
        action=frame.action,
        request_id=frame.request_id,
    )


def reply_to_crash(frame: Frame, request: MessageRequest | None, exc: BaseException) -> Reply:
    """
    Return the reply to an exception that DRF's handler left alone: the status Django would give.

    A server error is logged once, with its traceback and the opaque id that the client receives. So
    is SystemExit, because an action must not end the server. Under `DEBUG_PROPAGATE_EXCEPTIONS` the
    exception is raised again, as Django does.
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
    unavailable = is_unavailable(exc)
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
    """Return the reply to one of DRF's exceptions that was raised outside a view."""
    response = exception_handler(exc, {})
    assert response is not None, "DRF handles its own exceptions"
    body = json.loads(json.dumps(response.data, cls=JSONEncoder))
    errors, codes = _errors(body, response.data)
    return Reply(
        response.status_code,
        errors=errors,
        codes=codes,
        headers=dict(response.items()) or None,
        action=frame.action,
        request_id=frame.request_id,
    )


def reply_to_cancel(frame: Frame) -> Reply:
    """Return the reply to a frame whose client cancelled it."""
    return Reply.error(CLIENT_CLOSED_REQUEST, "The request was cancelled.", "cancelled", to=frame)


def _errors(body: Any, data: Any) -> tuple[str, str | None]:
    """Return `errors` of a reply, and their `codes`, of JSON that was rendered from `data`."""
    codes = codes_of(body, data)
    if isinstance(body, dict) and body.keys() == {"detail"} and isinstance(body["detail"], str):
        # DRF's exception handler wraps a string detail; DCRF's wire has the string.
        body, codes = body["detail"], codes and codes["detail"]
    if body is None:
        body = []
    elif not isinstance(body, list):
        body, codes = [body], [codes] if codes is not None else None
    return json.dumps(body), None if codes is None else json.dumps(codes, cls=JSONEncoder)


def codes_of(errors: Any, data: Any) -> Any:
    """
    Return the codes in a response's `data`, in the shape of `errors`, its JSON.

    That is, with the same keys and lengths of lists. None stands for a text without a code, or for
    all if there are none.

    A renderer may rename keys and wrap its data. Data that it shows differently have no code.
    """
    codes = _codes(errors, data)
    return codes if any(code is not None for code in _leaves(codes)) else None


def _codes(errors: Any, data: Any) -> Any:
    if _is_of(errors, data):
        return _aligned(errors, data)
    match errors:
        case dict():
            return {name: _codes(item, data) for name, item in errors.items()}
        case list():
            return [_codes(item, data) for item in errors]
    return None


def _aligned(errors: Any, data: Any) -> Any:
    match errors:
        case dict():
            return {name: _aligned(*pair) for name, *pair in _items(errors, data)}
        case list():
            return [_aligned(*pair) for pair in zip(errors, data, strict=True)]
    return data.code if isinstance(data, ErrorDetail) else None


def _is_of(errors: Any, data: Any) -> bool:
    """Return whether `errors` is the JSON of `data`, except for the names of keys."""
    match errors:
        case dict():
            return (
                isinstance(data, Mapping)
                and len(data) == len(errors)
                and all(_is_of(*pair) for _, *pair in _items(errors, data))
            )
        case list():
            return (
                isinstance(data, (list, tuple))
                and len(data) == len(errors)
                and all(map(_is_of, errors, data))
            )
    if isinstance(data, ErrorDetail):
        return bool(errors == data)
    return not isinstance(data, (Mapping, list, tuple))


def _items(errors: dict[str, Any], data: Mapping[Any, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Return names with the items of both: by name if the names agree, else in their order."""
    by_name = {str(name): item for name, item in data.items()}
    if by_name.keys() != errors.keys():
        by_name = dict(zip(errors, data.values(), strict=True))
    return ((name, item, by_name[name]) for name, item in errors.items())


def _leaves(codes: Any) -> Iterator[Any]:
    match codes:
        case dict():
            return chain.from_iterable(map(_leaves, codes.values()))
        case list():
            return chain.from_iterable(map(_leaves, codes))
    return iter([codes])


def _json_text(response: HttpResponseBase) -> str:
    content = _content(response)
    if not content or response.status_code in _BODYLESS:
        return "null"
    if _is_strict(response):
        return content.decode()
    is_json = _is_json(response)
    text = _decoded(content, _charset(response), is_json=is_json)
    if text is None:
        response["Content-Transfer-Encoding"] = "base64"
        return json.dumps(base64.b64encode(content).decode())
    if is_json:
        json.loads(text, parse_constant=_refuse_constant)
        return text
    return json.dumps(text)


def _charset(response: HttpResponseBase) -> str:
    is_named = "charset=" in response.get("Content-Type", "").lower()
    return str(response.charset) if is_named or not _is_json(response) else "utf-8"


def _decoded(content: bytes, charset: str | None, *, is_json: bool) -> str | None:
    """
    Return the text of `content`; None if it is not text or of an unknown charset.

    JSON of an unknown charset is read as UTF-8 (RFC 8259). Raises ValueError if JSON is not valid
    in its charset.
    """
    try:
        return content.decode(charset or "utf-8")
    except LookupError:
        return content.decode() if is_json else None
    except ValueError:
        if is_json:
            raise
        return None


def _is_strict(response: HttpResponseBase) -> bool:
    """Return whether DRF wrote the JSON, whose text can be inserted into a frame unchecked."""
    renderer: Any = getattr(response, "accepted_renderer", None)
    return type(renderer) is JSONRenderer and renderer.strict


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"The response contains {name}, which is not JSON.")


def _content(response: HttpResponseBase) -> bytes:
    if not response.streaming:
        content: bytes = response.content
        return content
    try:
        return b"".join(response)
    finally:
        # Files, for example. Not close(), which would announce the end of an HTTP request.
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
    """Return JSON text of `data`, by the renderer that DRF negotiated for `view`."""
    renderer, media_type = view.request.accepted_renderer, view.request.accepted_media_type
    content: Any = renderer.render(data, media_type, view.get_renderer_context())
    text: str | None
    if type(renderer) is JSONRenderer and renderer.strict:
        strict: str = content.decode()
        return strict
    is_json = "json" in media_type.partition(";")[0]
    text = content
    if isinstance(content, bytes):
        text = _decoded(content, renderer.charset, is_json=is_json)
    if text is None:
        return json.dumps(base64.b64encode(content).decode())
    if is_json:
        json.loads(text, parse_constant=_refuse_constant)
        return text
    return json.dumps(text)


_DETAILS: Final = {
    500: ("error", "Server error"),
    503: ("unavailable", "Service unavailable, try again later"),
}


# SQLite's result codes for a refused statement: SQLITE_ERROR (a function of the statement raised,
# an expression is too deep, there are too many parameters) and SQLITE_TOOBIG.
_REFUSED_BY_SQLITE: Final = frozenset({1, 18})

# PostgreSQL's classes of errors in data, syntax and program limits, and its end of a query that
# took too long (`statement_timeout`).
_REFUSED_BY_POSTGRESQL: Final = ("22", "42", "54", "57014")

# MySQL's error numbers of a server that is unreachable or busy: too many connections, no resources,
# shutdown, lock wait timeout, deadlock, killed; 2000 to 2999 are the client library's, for
# connections.
_GONE_BY_MYSQL: Final = frozenset({1040, 1041, 1053, 1129, 1203, 1205, 1213, 1226, 1927})


def is_unavailable(exc: BaseException | None) -> bool:
    """
    Return whether `exc` means that the database is unreachable or busy: retrying may help.

    A statement that it refuses is an error of the project or of the client's parameters.
    """
    if not isinstance(exc, (OperationalError, InterfaceError)):
        return False
    cause: Any = exc.__cause__
    if (result := getattr(cause, "sqlite_errorcode", None)) is not None:
        return (result & 0xFF) not in _REFUSED_BY_SQLITE
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    if state is not None:
        return not str(state).startswith(_REFUSED_BY_POSTGRESQL)
    number = cause.args[0] if cause is not None and cause.args else None
    if type(cause).__module__.startswith("MySQLdb") and isinstance(number, int):
        return 2000 <= number < 3000 or number in _GONE_BY_MYSQL
    return True


def reply_to_fault(
    exc: BaseException,
    message: str,
    *args: Any,
    to: Frame | Reply | None,
    status: int = 500,
    **extra: Any,
) -> Reply:
    """
    Log `exc` as an error and return a reply that reveals only that it happened, and its id.

    `message` with `args` describes the failed operation in the log; `extra` are attributes of the
    log record, besides `status_code` and `error_id`. `status` is 500 or 503.
    """
    code, detail = _DETAILS[status]
    error_id = uuid.uuid4().hex
    logger.error(
        f"{message} (error %s)",
        *args,
        error_id,
        exc_info=exc,
        extra={**extra, "status_code": status, "error_id": error_id},
        stacklevel=2,
    )
    headers = retry_headers() if status == 503 else None
    reply = Reply.error(status, f"{detail} (error {error_id}).", code, to=to, headers=headers)
    reply.error_id = error_id
    return reply
