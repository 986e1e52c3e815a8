"""
The time to describe the sockets of a project with many viewsets, and to write the document.

    python -m benchmarks.schema --viewsets 200 --rounds 3

Each viewset has a serializer, a filter and pages of its own, and is served over HTTP too. Times are
of the processor, the least of all rounds: other work on the machine changes them little.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import django
from django.conf import settings

URLS = "benchmarks.schema_urls"

#: By measurement, for 200 viewsets: seconds for the description and the document.
TARGET_SECONDS = 3


def run(options: argparse.Namespace) -> None:
    """Measure in a process of its own, which has a URLconf of its own."""
    arguments = [f"--viewsets={options.viewsets}", f"--rounds={options.rounds}"]
    subprocess.run([sys.executable, "-m", "benchmarks.schema", *arguments], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.schema")
    parser.add_argument("--viewsets", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    settings.configure(
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "rest_framework",
            "channels",
            "rest_channels",
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        ROOT_URLCONF=URLS,
        REST_FRAMEWORK={"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"},
    )
    django.setup()
    application = project(options.viewsets)

    from rest_channels.schema.asyncapi import asyncapi
    from rest_channels.schema.description import describe
    from rest_channels.schema.formats import to_json

    least: dict[str, float] = {}
    for _ in range(options.rounds):
        described = timed(least, "description", describe, application)
        document = timed(least, "document", asyncapi, described)
        text = timed(least, "JSON text", to_json, document)
    print(f"schema of {options.viewsets} viewsets, {len(text) / 1e6:.1f} MB of JSON")
    for name, seconds in least.items():
        print(f"  {name:12} {seconds:6.2f} s")
    built = least["description"] + least["document"]
    print(f"  {'both':12} {built:6.2f} s, target for 200: {TARGET_SECONDS} s")


def timed(least: dict[str, float], name: str, call: Callable[[Any], Any], value: Any) -> Any:
    began = time.process_time()
    result = call(value)
    seconds = time.process_time() - began
    least[name] = min(seconds, least.get(name, seconds))
    return result


def project(count: int) -> Any:
    """Return the sockets of `count` viewsets, which are served over HTTP as well."""
    from django.contrib.auth.models import Permission
    from django.urls import include, path
    from rest_framework import pagination, permissions, routers, serializers, viewsets

    from rest_channels.routers import DefaultRouter

    sockets, over_http = DefaultRouter(), routers.SimpleRouter()
    for number in range(count):
        meta = type("Meta", (), {"model": Permission, "fields": "__all__"})
        serializer: Any = type(
            f"Row{number}Serializer", (serializers.ModelSerializer,), {"Meta": meta}
        )
        attributes = {
            "queryset": Permission.objects.all(),
            "serializer_class": serializer,
            "pagination_class": pagination.LimitOffsetPagination,
            "permission_classes": [permissions.IsAuthenticated],
        }
        viewset: Any = type(f"Row{number}ViewSet", (viewsets.ModelViewSet,), attributes)
        for router in (sockets, over_http):
            router.register(f"rows{number}", viewset, basename=f"row{number}")
    urls: Any = types.ModuleType(URLS)
    urls.urlpatterns = [path("api/", include(over_http.urls))]
    sys.modules[URLS] = urls
    return sockets.as_asgi()


if __name__ == "__main__":
    main()
