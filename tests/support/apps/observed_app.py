"""
The application of `abuse_app` with receivers of all signals, and logs as JSON.

Lines of its output begin with "SIGNAL " or "RECORD ".
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading

from tests.support.apps.abuse_app import application as application

# isort: split
from django.contrib.auth.models import User
from django.dispatch import receiver

from rest_channels import signals


def write(kind: str, value: object) -> None:
    sys.stdout.write(f"{kind} {json.dumps(value, default=str)}\n")
    sys.stdout.flush()


class Records(logging.Handler):
    """Writes all attributes of a record, as formatters for JSON do, and its message."""

    def emit(self, record: logging.LogRecord) -> None:
        write("RECORD", {**vars(record), "message": record.getMessage()})


log = logging.getLogger("rest_channels.access")
log.addHandler(Records())
log.setLevel(logging.INFO)


def is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


SIGNALS = [name for name in vars(signals) if "_" in name and name.islower() and name[0] != "_"]


def listening(name: str):
    def receive(sender, report, **kwargs):
        # A receiver may use the database.
        User.objects.count()
        seen = {
            key: getattr(report, key, None) for key in ("operation", "status", "code", "reason")
        }
        thread = threading.current_thread().name
        write("SIGNAL", {"name": name, "thread": thread, "on_loop": is_on_loop(), **seen})

    return receive


RECEIVERS = {name: listening(name) for name in SIGNALS}
for name, receive in RECEIVERS.items():
    getattr(signals, name).connect(receive)


@receiver(signals.frame_answered)
def failing(report, **kwargs):
    raise ValueError("a receiver that fails")


@receiver(signals.frame_answered)
async def on_the_loop(report, **kwargs):
    write("SIGNAL", {"name": "async", "on_loop": is_on_loop(), "operation": report.operation})
