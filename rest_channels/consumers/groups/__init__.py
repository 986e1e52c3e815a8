"""Groups of sockets, and rooms with a history."""

from rest_channels.moved import old_names_of

__getattr__ = old_names_of(__name__)
