"""Subscriptions: the path from a written row to the sockets that show it."""
