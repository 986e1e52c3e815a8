"""Visibility: the rows that a subscriber may see, and the subscribers who can share one answer."""
