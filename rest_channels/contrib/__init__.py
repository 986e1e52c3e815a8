"""Integrations with other libraries and with servers."""
