"""
The types of an API for the JavaScript client, as one file of TypeScript.

    text = typescript(describe(get_default_application()))

    // src/api.ts
    import { connect } from "rest-channels";
    import type { Streams } from "./socket-api";
    export const api = connect<Streams>("/");
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from django.core.exceptions import ImproperlyConfigured

from rest_channels.schema.description import ApiDescription, SocketDescription
from rest_channels.schema.typescript_components import ComponentTypes
from rest_channels.schema.typescript_streams import StreamTypes
from rest_channels.schema.typescript_text import comment, members, type_name

_HEADER: Final = """\
/*
 * The types of an API over websockets, for connect<Streams>(url) of the package rest-channels.
 *
 * Do not edit them: `manage.py socket_schema --format ts` makes them of serializers, filters and
 * routers.
 */
"""


def typescript(description: ApiDescription) -> str:
    """
    Return the text of a file with the type `Streams`, and the types that it is made of.

    If there are several roots, the others have types named by their paths. Raises
    `ImproperlyConfigured` if no socket carries several streams, because the client opens no other.
    """
    roots = named_roots(description.sockets)
    if not roots:
        raise ImproperlyConfigured(
            "TypeScript types need a root, the socket of all streams. Register the viewsets with "
            "rest_channels.routers.DefaultRouter."
        )
    components = ComponentTypes(description.components, frozenset(roots))
    components.name_uses(lambda: [_streams(n, s, components) for n, s in roots.items()])
    streams = [_streams(name, socket, components) for name, socket in roots.items()]
    return "\n".join([_HEADER, *(f"{text}\n" for text in (*components.declarations(), *streams))])


def named_roots(sockets: Iterable[SocketDescription]) -> dict[str, SocketDescription]:
    """
    Return the sockets of several streams by the names of their types.

    The one with the shortest path is `Streams`, `/v2/` is `V2Streams`.
    """
    found: dict[str, SocketDescription] = {}
    for socket in sorted(sockets, key=lambda socket: len(socket.path)):
        if socket.is_root:
            parts = re.findall(r"[A-Za-z0-9]+", socket.path) if found else []
            name = "".join(part[0].upper() + part[1:] for part in parts)
            found[type_name(f"{name}Streams", found)] = socket
    return found


def _streams(name: str, socket: SocketDescription, components: ComponentTypes) -> str:
    types = StreamTypes(components)
    found = [types.member(stream) for stream in socket.streams]
    title = comment([f"The streams of {socket.path}, each with the types of its viewset or rooms."])
    return "\n".join([*title, f"export interface {name} {{", *members(found), "}"])
