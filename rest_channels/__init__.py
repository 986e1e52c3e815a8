"""Your DRF viewsets, over one websocket, live."""

from rest_channels import moved
from rest_channels.metrics.figures import stats as stats

__version__ = "0.1.0"

moved.install()
