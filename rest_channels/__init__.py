"""Your DRF viewsets, over one websocket, live."""

__version__ = "0.1.0"
