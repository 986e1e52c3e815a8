"""The API version of frames to a stream, as far as routers know it."""

from __future__ import annotations

from typing import Any

from rest_framework.versioning import NamespaceVersioning, URLPathVersioning

from rest_channels.sockets.streams import Stream


def version_of(versioning: Any, stream: Stream) -> str | None:
    """Return the version that a frame to `stream` has, unless its headers or query name one."""
    allowed = [version for version in versioning.allowed_versions or () if version is not None]
    if issubclass(versioning, NamespaceVersioning) and stream.namespace is not None:
        found = [part for part in stream.namespace.split(":") if not allowed or part in allowed]
        if found:
            return found[0]
    if versioning.default_version is None and issubclass(versioning, URLPathVersioning):
        return allowed[0] if allowed else None
    version: str | None = versioning.default_version
    return version
