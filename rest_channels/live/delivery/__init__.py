"""Delivery: changes in the log become the events that each subscriber receives."""
