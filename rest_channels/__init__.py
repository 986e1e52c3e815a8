"""Your DRF viewsets, over one websocket, live."""

from rest_channels.counters import stats as stats

__version__ = "0.1.0"
