"""
The access log: one line for each frame that was answered, by the logger `rest_channels.access`.

    REST_CHANNELS = {"ACCESS_LOG": True}

    messages list 200 3.1 ms, request_id 7, user 12

The values are attributes of the log record, for formatters that write JSON. Neither data, nor
queries, nor headers are among them, so credentials are not.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from django.core.signals import setting_changed

from rest_channels.observing.observers import Observer, observers
from rest_channels.observing.reports import FrameReport
from rest_channels.settings import socket_settings

logger = logging.getLogger("rest_channels.access")

#: Attributes of a log record, which are those of a report.
FIELDS: Final = (
    *("stream", "action", "operation", "verb", "status", "seconds", "thread_seconds", "queries"),
    *("bytes_in", "bytes_out", "parts", "fence_seconds", "is_replayed", "is_throttled", "is_sent"),
    *("request_id", "correlation_id", "error_id"),
)


class AccessLog(Observer):
    """
    Writes the log, on the loop.

    Put handlers that wait, for a disk or a network, behind a `logging.handlers.QueueHandler`.
    """

    def on_frame(self, report: FrameReport) -> None:
        if logger.isEnabledFor(logging.INFO):
            logger.info("%s", _Line(report), extra=_extra(report))


class _Line:
    """The text of a line, made only if a formatter asks for it."""

    def __init__(self, report: FrameReport) -> None:
        self._report = report

    def __str__(self) -> str:
        report = self._report
        # JSON, because line ends and quotes are a client's to choose.
        parts = [
            f"{report.stream or '-'} {json.dumps(report.action)} {report.status} "
            f"{report.seconds * 1000:.1f} ms"
        ]
        for name, value in (
            ("request_id", report.request_id),
            ("correlation_id", report.correlation_id),
            ("user", report.user_pk),
            ("error", report.error_id),
        ):
            if value is not None:
                parts.append(f"{name} {json.dumps(value, default=str)}")
        return ", ".join(parts)


def _extra(report: FrameReport) -> dict[str, Any]:
    extra = {name: getattr(report, name) for name in FIELDS}
    # A key of any type: UUID, or that of a user without a row.
    pk = report.user_pk
    extra["user_pk"] = pk if pk is None or isinstance(pk, (int, str)) else str(pk)
    return extra


_access_log = AccessLog()


def _apply(*, setting: str, **kwargs: Any) -> None:
    if setting == "REST_CHANNELS":
        connect()


def connect() -> None:
    """Write the log if the setting asks for it; once the apps are ready, and in tests again."""
    setting_changed.connect(_apply)
    if socket_settings.ACCESS_LOG:
        observers.add(_access_log)
    else:
        observers.remove(_access_log)
