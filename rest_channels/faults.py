"""
The server's own faults: logged once, with the traceback, and an opaque id that the client is told.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any, Final

from rest_channels.protocol import Frame, Reply
from rest_channels.rates import retry_headers

logger = logging.getLogger("rest_channels")

_DETAILS: Final = {
    500: ("error", "Server error"),
    503: ("unavailable", "Service unavailable, try again later"),
}


def reply_to_fault(
    exc: BaseException,
    message: str,
    *args: Any,
    to: Frame | Reply | None,
    status: int = 500,
    **extra: Any,
) -> Reply:
    """
    Log `exc` as an error and return what the client may know of it: that it happened, and the id.

    `message` with `args` says in the log what was being done; `extra` are attributes of the log
    record, beside `status_code` and `error_id`. `status` is 500 or 503.
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
    return Reply.error(status, f"{detail} (error {error_id}).", code, to=to, headers=headers)
