from __future__ import annotations

from contextlib import contextmanager
from typing import Any

from django.db import models
from simple_history.models import HistoricalRecords


class Note(models.Model):
    text = models.CharField(max_length=50)
    history = HistoricalRecords()


@contextmanager
def history(request: Any) -> Any:
    """As docs/contexts.md shows it."""
    HistoricalRecords.context.request = request
    try:
        yield
    finally:
        del HistoricalRecords.context.request
