"""Subscriptions: from a row that is written to the sockets that show it."""
