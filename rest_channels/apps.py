from __future__ import annotations

from django.apps import AppConfig


class RestChannelsConfig(AppConfig):
    name = "rest_channels"
    verbose_name = "REST channels"
    default_auto_field = "django.db.models.BigAutoField"
