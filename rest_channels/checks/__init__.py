"""
System checks: `manage.py check` reports wrong configuration with what to type next.

    E001  REST_CHANNELS is not a dictionary, or has a setting that does not exist
    E002  a setting has an invalid value
    W003  sockets do not check the Origin header
    W004  each frame opens a new connection to PostgreSQL: CONNECTION_SECONDS is 0
    W005  the channel layer's Redis connections time out while they wait
    W006  two viewsets have the same basename
    W007  a viewset cannot write JSON, perhaps because of REST_FRAMEWORK's defaults
    W008  a viewset cannot read JSON, perhaps because of REST_FRAMEWORK's defaults
    W009  a database lacks tables of rest_channels (`manage.py check --database ...`)
    W010  a database lacks triggers that the settings ask for, or has others (likewise)
    E011  triggers are asked for, but this kind of database has none
    E012  a database whose changes are captured does not commit automatically
    W013  a server is too old: `rest_channels.contrib.servers`
    W014  the database deletes or changes rows without a signal
    W019  users who are not signed in may open the console

Each module here has the checks of one subject. W014 and the checks of subscriptions are in
`rest_channels.live.capture.capture_checks`, W017 and W018 in `rest_channels.live.fence_checks`. No
check can report that `rest_channels` is missing from INSTALLED_APPS, because it would not run: the
routers raise ImproperlyConfigured.
"""

from __future__ import annotations

from django.core.checks import Tags, register

from rest_channels.checks.console_checks import check_console
from rest_channels.checks.database_checks import (
    check_autocommit,
    check_databases,
    check_support_of_triggers,
    check_tables,
    check_triggers,
)
from rest_channels.checks.layer_checks import check_channel_layers
from rest_channels.checks.settings_checks import check_settings
from rest_channels.checks.socket_checks import check_origin, check_streams
from rest_channels.contrib.servers import check_servers
from rest_channels.live.capture.capture_checks import check_relations
from rest_channels.live.fence_checks import check_fences


def register_checks() -> None:
    """Register all checks once the apps are ready."""
    for check in (
        check_settings,
        check_origin,
        check_databases,
        check_channel_layers,
        check_streams,
        check_support_of_triggers,
        check_autocommit,
        check_servers,
        check_relations,
        check_fences,
        check_console,
    ):
        register(check, "rest_channels")
    # Only by this tag: from Django 6.1 on, `check --tag` passes all databases to every check it
    # runs.
    register(check_tables, Tags.database)
    register(check_triggers, Tags.database)
