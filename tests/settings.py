"""Settings of the project that the tests run in; SQLite and in-memory unless told otherwise."""

from __future__ import annotations

import json
import os

SECRET_KEY = "not a secret: the tests' own, and as long as one"
USE_TZ = True
ROOT_URLCONF = "tests.urls"
ASGI_APPLICATION = os.environ.get("TEST_ASGI_APPLICATION", "tests.asgi.application")
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "rest_framework",
    "rest_framework.authtoken",
    "django_filters",
    "channels",
    "rest_channels",
    "tests",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Tables made at once, for the tests' own models have no migrations to come after.
MIGRATION_MODULES = dict.fromkeys(("auth", "contenttypes", "sessions", "authtoken"))
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
if "TEST_CHANNEL_LAYERS" in os.environ:
    CHANNEL_LAYERS = json.loads(os.environ["TEST_CHANNEL_LAYERS"])
REST_FRAMEWORK = {
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "NUM_PROXIES": json.loads(os.environ.get("TEST_NUM_PROXIES", "null")),
}

# Tests kill processes, not machines, so no commit has to wait for the disk.
SQLITE_OPTIONS = {"timeout": 20, "init_command": "PRAGMA synchronous = OFF"}

if os.environ.get("TEST_DATABASE") == "postgresql":
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": os.environ.get("PGDATABASE", "postgres"),
            "USER": os.environ.get("PGUSER", "postgres"),
            "HOST": os.environ.get("PGHOST", "127.0.0.1"),
            "PORT": os.environ.get("PGPORT", ""),
            "TEST": {"NAME": f"rest_channels_tests_{os.getpid()}"},
        }
    }
elif os.environ.get("TEST_DATABASE") == "mariadb":
    # In place of mysqlclient, which pip has to compile.
    import pymysql

    pymysql.install_as_MySQLdb()
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.mysql",
            "NAME": "mysql",
            "USER": os.environ.get("MYSQL_USER", "root"),
            "HOST": os.environ.get("MYSQL_HOST", "127.0.0.1"),
            "TEST": {"NAME": f"rest_channels_tests_{os.getpid()}", "CHARSET": "utf8mb4"},
        }
    }
else:
    # A file, not memory: threads of a real server each open a connection of their own.
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ.get("TEST_DATABASE_FILE", ":memory:"),
            "OPTIONS": {**SQLITE_OPTIONS, "transaction_mode": "IMMEDIATE"},
            "CONN_MAX_AGE": None if "TEST_DATABASE_FILE" in os.environ else 0,
            "TEST": {
                "NAME": os.path.join(
                    os.environ.get("TMPDIR", "/tmp"), f"rest_channels_{os.getpid()}.sqlite3"
                )
            },
        }
    }

# Several processes have one layer.
if "TEST_REDIS_PREFIX" in os.environ:
    CHANNEL_LAYERS["default"] = {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            "hosts": [{"address": "redis://127.0.0.1:6379", "socket_timeout": 10}],
            "prefix": os.environ["TEST_REDIS_PREFIX"],
        },
    }

# `tests.support.server_processes` starts a server process with these.
REST_CHANNELS = json.loads(os.environ.get("TEST_REST_CHANNELS", "{}"))
if "TEST_LOG_LEVEL" in os.environ:
    LOGGING = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"console": {"class": "logging.StreamHandler"}},
        "root": {"handlers": ["console"], "level": os.environ["TEST_LOG_LEVEL"]},
    }
