"""The link by which a user signs in."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, Resolver404, resolve, reverse


def sign_in_url(request: Any) -> str:
    """Return the address of the project's form, which leads back to the page; "" without one."""
    address = _of_browsable_api() or _of_settings()
    return f"{address}?{urlencode({'next': request.path})}" if address else ""


def _of_browsable_api() -> str:
    try:
        return str(reverse("rest_framework:login"))
    except NoReverseMatch:
        return ""


def _of_settings() -> str:
    address = str(resolve_url(settings.LOGIN_URL))
    try:
        # Django's default names a page that many projects do not have.
        resolve(address)
    except Resolver404:
        return address if "://" in address else ""
    return address
