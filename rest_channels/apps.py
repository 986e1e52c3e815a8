from __future__ import annotations

from django.apps import AppConfig


class RestChannelsConfig(AppConfig):
    name = "rest_channels"
    verbose_name = "REST channels"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from rest_channels.bus import doorbell
        from rest_channels.checks import register_checks
        from rest_channels.live.capture import model_signals, triggers
        from rest_channels.live.log import maintenance
        from rest_channels.observing import access_log
        from rest_channels.sockets.revalidation import connect_signals
        from rest_channels.workers import connection_state, connections, threads

        connections.connect()
        threads.connect()
        model_signals.connect()
        triggers.connect()
        doorbell.add_listener(maintenance.housekeeper)
        connect_signals()
        connection_state.connect_signals()
        access_log.connect()
        register_checks()
