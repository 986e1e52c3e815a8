"""Settings of a project whose streams are hard to describe: see `tests.support.odd_api`."""

from tests.settings import *  # noqa: F403

ASGI_APPLICATION = "tests.support.odd_api.application"
REST_FRAMEWORK = {
    **REST_FRAMEWORK,  # noqa: F405
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
