"""Writes of rows, recorded as pending changes by triggers, signals and managers."""

from rest_channels.moved import old_names_of

__getattr__ = old_names_of(__name__)
