"""
The document of the sockets over HTTP, as REST framework's schema view has that of the HTTP API.

    path("sockets/schema/", SchemaView.as_view(permission_classes=[IsAdminUser]))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from channels.routing import get_default_application
from rest_framework.exceptions import PermissionDenied
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from rest_channels.schema.asyncapi import asyncapi
from rest_channels.schema.description import describe
from rest_channels.schema.formats import has_yaml, to_json, to_yaml


class AsyncAPIJSONRenderer(BaseRenderer):
    """AsyncAPI as JSON."""

    media_type = "application/vnd.aai.asyncapi+json"
    format = "json"
    charset = None

    def render(
        self, data: Any, media_type: str | None = None, context: Mapping[str, Any] | None = None
    ) -> bytes:
        return to_json(data).encode()


class AsyncAPIYAMLRenderer(BaseRenderer):
    """AsyncAPI as YAML, if PyYAML is installed."""

    media_type = "application/vnd.aai.asyncapi+yaml"
    format = "yaml"

    def render(
        self, data: Any, media_type: str | None = None, context: Mapping[str, Any] | None = None
    ) -> bytes:
        return to_yaml(data).encode()


class SchemaView(APIView):
    """
    The AsyncAPI document of the sockets, in JSON or YAML.

    If it is not `public`, each user sees the actions that permissions allow this user. `servers`
    are URLs such as "wss://example.com"; the address of the request is the default.
    """

    schema = None
    public = False
    servers: Sequence[str] = ()
    #: The ASGI application that has the sockets; that of ASGI_APPLICATION by default.
    application: Any = None

    renderer_classes = (
        [AsyncAPIJSONRenderer, AsyncAPIYAMLRenderer] if has_yaml() else [AsyncAPIJSONRenderer]
    )

    _ignore_model_permissions = True

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return the document. Raises `PermissionDenied` if the user may use nothing."""
        application = self.application or get_default_application()
        description = describe(application, self.public, request)
        if not description.sockets:
            raise PermissionDenied
        servers = self.servers or [request.build_absolute_uri("/")]
        return Response(asyncapi(description, servers))
