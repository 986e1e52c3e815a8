"""The log of changes: its store, positions, sequencer and maintenance."""

from rest_channels.moved import old_names_of

__getattr__ = old_names_of(__name__)
