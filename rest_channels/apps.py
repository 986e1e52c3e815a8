from __future__ import annotations

from django.apps import AppConfig


class RestChannelsConfig(AppConfig):
    name = "rest_channels"
    verbose_name = "REST channels"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from rest_channels.checks import register_checks
        from rest_channels.leases import connect_signals
        from rest_channels.live import housekeeping, listening, relay, triggers

        listening.connect()
        triggers.connect()
        relay.add_listener(housekeeping.housekeeper)
        connect_signals()
        register_checks()
