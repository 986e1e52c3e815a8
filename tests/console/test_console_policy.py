"""The console beside the CSP middleware of Django 6."""

from __future__ import annotations

import django
import pytest
from django.test import Client


@pytest.mark.django_db
def test_the_policy_is_left_alone_by_djangos_middleware(settings):
    settings.DEBUG = True
    settings.ROOT_URLCONF = "tests.support.console_urls"
    settings.STATIC_URL = "/static/"
    settings.TEMPLATES = [
        {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
    ]
    if django.VERSION >= (6, 0):
        csp = "django.middleware.csp.ContentSecurityPolicyMiddleware"
        settings.MIDDLEWARE = [csp, *settings.MIDDLEWARE]
        settings.SECURE_CSP = {"script-src": ["'self'"], "style-src": ["'self'"]}
    policy = Client().get("/sockets/")["Content-Security-Policy"]
    # It allows less than that of the middleware; in Chromium the page works under it.
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
