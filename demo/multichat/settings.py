"""
Settings of the demo, for a laptop only: the page shows its passwords.

`DEMO_DATABASE` names an SQLite file other than `demo/demo.sqlite3`. `DEMO_REDIS` is the URL of a
Redis that connects several server processes.
"""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = True
SECRET_KEY = "no secret: the demo's own"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "channels",
    "rest_channels",
    "chat",
    "kanban",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
            ]
        },
    }
]

ROOT_URLCONF = "multichat.urls"
ASGI_APPLICATION = "multichat.asgi.application"

DATABASE = os.environ.get("DEMO_DATABASE", BASE_DIR / "demo.sqlite3")
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATABASE,
        # Make writers queue for SQLite's one lock, so that none fails halfway through a
        # transaction.
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
if "DEMO_REDIS" in os.environ:
    CHANNEL_LAYERS["default"] = {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            # Longer than the 5 seconds that the layer waits for a message.
            "hosts": [{"address": os.environ["DEMO_REDIS"], "socket_timeout": 10}],
            # Processes that share a database are one chat; others on the same Redis are separate.
            "prefix": f"multichat:{DATABASE}",
        },
    }

# Show the users of a killed process as gone after 4 seconds; by default it takes 35.
REST_CHANNELS = {"PRESENCE_SECONDS": 1}

# DRF's settings apply to both transports: a frame is a request to DRF.
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_FILTER_BACKENDS": [
        "django_filters.rest_framework.DjangoFilterBackend",
        "rest_framework.filters.SearchFilter",
    ],
    # The pages of the API have a button "Live" that opens the console.
    "DEFAULT_RENDERER_CLASSES": [
        "rest_framework.renderers.JSONRenderer",
        "rest_channels.console.renderers.LiveBrowsableAPIRenderer",
    ],
}

LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "page"
LOGOUT_REDIRECT_URL = "sign-in"

STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"
