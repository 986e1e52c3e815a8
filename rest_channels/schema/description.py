"""
A neutral description of a project's sockets, from which documents and types are made.

    description = describe(get_default_application())
    for socket in description.sockets:
        for stream in socket.streams:
            for action in stream.actions: ...

It is made from the routers alone. JSON Schemas in it are of draft 2020-12 and name components by
`{"$ref": "#/components/schemas/Name"}`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework.exceptions import APIException
from rest_framework.permissions import SAFE_METHODS, AllowAny
from rest_framework.schemas.generators import EndpointEnumerator
from rest_framework.views import APIView

from rest_channels.consumers.consumer_streams import ConsumersStream
from rest_channels.consumers.groups.rooms import RoomConsumers
from rest_channels.contrib.dcrf.hosting import HostedStream
from rest_channels.routers import Socket, find_sockets
from rest_channels.schema.handler_messages import (
    RoomSchemas,
    handler_messages,
    room_schemas,
    room_serializers,
)
from rest_channels.schema.json_schema import JsonSchema, component_name, reachable, resolved
from rest_channels.schema.mapping import operations_of
from rest_channels.schema.operations import (
    Operation,
    Operations,
    Parameter,
    described_endpoints,
)
from rest_channels.schema.routed_actions import (
    RoutedAction,
    class_names,
    configuration,
    routed_actions,
)
from rest_channels.sockets.endpoints import SUBSCRIPTIONS, Endpoint
from rest_channels.sockets.query_keys import page_keys
from rest_channels.sockets.streams import Stream

Kind = Literal["viewset", "consumers", "hosted", "rooms"]


@dataclass(frozen=True)
class ActionDescription:
    """
    An action that clients can call, or a message that a handler takes.

    `verbs` are lowercase, the default one first. `lookups` are the keys that name a row, `query`
    those of the frame's `query`. `request` is the schema of `data`, None if the action takes none;
    `response` that of the reply's `data`, with `status` on success, None if there is none.

    `is_many`: `response` is a list of rows or, if it `is_paginated`, an object with such a list.
    `is_streaming`: an action with any number of replies, each of `response`, with status 206.

    `subscribes`: the action begins a subscription, with rows of `response`. `subscription` is the
    name of the action that subscribes to what this one answers, if there is one. `is_watchable`:
    it can be the `of` of a `watch`. `is_windowed`: it subscribes and takes `window` and `ordered`.

    `message`, of a handler alone, is the schema of the whole message, which is not a frame.
    """

    name: str
    aliases: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    doc: str = ""
    permissions: tuple[str, ...] = ()
    throttles: tuple[str, ...] = ()
    is_detail: bool = False
    is_safe: bool = False
    is_deprecated: bool = False
    lookups: tuple[Parameter, ...] = ()
    query: tuple[Parameter, ...] = ()
    request: JsonSchema | None = None
    is_request_required: bool = False
    response: JsonSchema | None = None
    status: int = 200
    is_many: bool = False
    is_paginated: bool = False
    is_streaming: bool = False
    #: Statuses of refusals, beside 500 and 503.
    errors: tuple[int, ...] = ()
    subscribes: bool = False
    subscription: str | None = None
    is_watchable: bool = False
    is_windowed: bool = False
    message: JsonSchema | None = None


@dataclass(frozen=True)
class StreamDescription:
    """
    One stream of a socket; `name` is None if the socket has no other.

    `row` refers to the component of its rows and `lookup` is the key that names one, if known.
    """

    name: str | None
    kind: Kind
    doc: str
    row: JsonSchema | None
    lookup: Parameter | None
    actions: tuple[ActionDescription, ...]
    #: Names of the authentication classes.
    authentication: tuple[str, ...] = ()
    #: The content of its rooms, if it has rooms.
    room: RoomSchemas | None = None


@dataclass(frozen=True)
class SocketDescription:
    """
    One path, as `/messages/{pk}/`, and the streams that it serves.

    `lookups` are the keys in the path: a frame need not give them. A frame of a root is
    `{"stream": name, "payload": frame}`.
    """

    path: str
    is_root: bool
    is_row: bool
    lookups: tuple[Parameter, ...]
    streams: tuple[StreamDescription, ...]


@dataclass(frozen=True)
class ApiDescription:
    """All sockets of an application. `security` are OpenAPI's security schemes, by name."""

    sockets: tuple[SocketDescription, ...]
    components: dict[str, JsonSchema]
    security: dict[str, Mapping[str, Any]] = field(default_factory=dict)


def describe(application: Any, public: bool = True, request: Any = None) -> ApiDescription:
    """
    Describe the sockets below an ASGI application, as `find_sockets` finds them.

    Without `public`, describe only what the user of the DRF `request` may use; permissions of
    hosted consumers are not known, so they are left out.
    """
    sockets = list(find_sockets(application))
    streams = {id(s): s for socket in sockets for s in map(_viewsets, socket.streams) if s}
    serializers = {
        serializer: None
        for socket in sockets
        for rooms in map(_rooms, socket.streams)
        if rooms is not None
        for serializer in room_serializers(rooms)
    }
    operations = operations_of(
        list(streams.values()), list(serializers), public=public, request=request
    )
    found = _Streams(operations, None if public else request)
    described = tuple(
        described for socket in sockets if (described := _socket(socket, found)).streams
    )
    schemas = [
        schema
        for socket in described
        for stream in socket.streams
        for schema in (stream.row, *_schemas(stream))
    ]
    return ApiDescription(
        described,
        reachable(schemas, operations.components),
        {name: operations.security[name] for name in sorted(operations.security)},
    )


def _schemas(stream: StreamDescription) -> Iterator[JsonSchema | None]:
    for action in stream.actions:
        yield from (action.request, action.response, action.message)
        yield from (parameter.schema for parameter in (*action.query, *action.lookups))
    if stream.room is not None:
        yield from (stream.room.user, stream.room.sent, stream.room.told)


def _rooms(stream: Any) -> type[RoomConsumers] | None:
    """Return the class of rooms behind `stream`, if any."""
    consumers = stream.consumers if isinstance(stream, ConsumersStream) else None
    if consumers is None or not issubclass(consumers, RoomConsumers):
        return None
    return consumers


def _viewsets(stream: Any) -> Stream | None:
    """Return the viewset that answers frames to `stream`, if any."""
    if isinstance(stream, ConsumersStream):
        return stream.viewsets
    return stream if isinstance(stream, Stream) else None


class _Streams:
    """The streams of all sockets, each described once. `request` is the user's, if it counts."""

    def __init__(self, operations: Operations, request: Any) -> None:
        self._operations = operations
        self._request = request
        self._known: dict[tuple[int, bool], StreamDescription | None] = {}

    def of(self, socket: Socket) -> Iterator[StreamDescription]:
        """Yield the streams of `socket`, without those that are hidden from the user."""
        for stream in socket.streams:
            key = (id(stream), socket.is_row)
            if key not in self._known:
                self._known[key] = self._described(stream, is_row=socket.is_row)
            if (known := self._known[key]) is not None:
                yield replace(known, name=stream.prefix) if socket.is_root else known

    def _described(
        self, stream: Stream | HostedStream, *, is_row: bool
    ) -> StreamDescription | None:
        if self._request is not None and not _may_use(stream, self._request):
            return None
        described = _stream(stream, self._operations, is_row=is_row)
        # As over HTTP, something hidden leaves no trace.
        return described if described.actions else None


def _socket(socket: Socket, found: _Streams) -> SocketDescription:
    streams = list(found.of(socket))
    path = EndpointEnumerator(patterns=[]).get_path_from_regex(socket.path)
    known = {
        lookup.name: lookup
        for stream in streams
        for action in stream.actions
        for lookup in action.lookups
    }
    lookups = tuple(
        known.get(name, Parameter(name, {"type": "string"}, is_required=True))
        for name in _variables(path)
    )
    bound = {lookup.name for lookup in lookups}
    return SocketDescription(
        path,
        socket.is_root,
        socket.is_row,
        lookups,
        tuple(
            replace(
                stream,
                actions=tuple(
                    replace(a, lookups=tuple(p for p in a.lookups if p.name not in bound))
                    for a in stream.actions
                ),
            )
            for stream in streams
        ),
    )


def _may_use(stream: Stream | HostedStream, request: Any) -> bool:
    """Return whether the user may use a stream at all; operations decide about its actions."""
    if isinstance(stream, HostedStream):
        return False
    if not isinstance(stream, ConsumersStream):
        return True
    view = stream.endpoints[0].pattern.callback.cls()
    view.request = request
    try:
        APIView.check_permissions(view, request)
    except (APIException, Http404, PermissionDenied):
        return False
    return True


def _variables(path: str) -> list[str]:
    return [part.partition("}")[0] for part in path.split("{")[1:]]


def _stream(
    stream: Stream | HostedStream, operations: Operations, *, is_row: bool
) -> StreamDescription:
    if isinstance(stream, HostedStream):
        actions = tuple(_hosted(stream))
        return StreamDescription(None, "hosted", _doc(stream.consumer), None, None, actions)
    if isinstance(stream, ConsumersStream):
        return _consumers(stream, operations)
    return _viewset(stream, operations, is_row=is_row)


def _hosted(stream: HostedStream) -> Iterator[ActionDescription]:
    for name, method in sorted(stream.consumer.available_actions.items()):
        yield ActionDescription(name, doc=_doc(getattr(stream.consumer, method)))


def _consumers(stream: ConsumersStream, operations: Operations) -> StreamDescription:
    rooms = _rooms(stream)
    room = None if rooms is None else room_schemas(rooms, operations.serializers)
    kind: Kind = "consumers" if room is None else "rooms"
    policy: Any = stream.consumers
    handlers = tuple(
        ActionDescription(
            message.name,
            doc=message.doc,
            permissions=class_names(policy.get_permission_classes()),
            throttles=class_names(policy.throttle_classes),
            message=message.schema,
            response=message.response,
            status=message.status,
        )
        for message in handler_messages(stream, room)
    )
    authentication = class_names(policy.authentication_classes)
    described = StreamDescription(
        None, kind, _doc(policy), None, None, handlers, authentication, room
    )
    if stream.viewsets is not None:
        below = _viewset(stream.viewsets, operations, is_row=False)
        described = replace(
            below, kind=kind, doc=_doc(policy), actions=handlers + below.actions, room=room
        )
    return described


def _viewset(stream: Stream, operations: Operations, *, is_row: bool) -> StreamDescription:
    actions = [
        action
        for routed in routed_actions(stream, is_row=is_row)
        if (action := _action(routed, stream, operations)) is not None
    ]
    if [action.name for action in actions] == ["metadata"]:
        actions = []
    return StreamDescription(
        None,
        "viewset",
        _doc(stream.viewset),
        _row(stream, operations),
        _lookup(stream, operations),
        tuple(actions),
        class_names(getattr(stream.viewset, "authentication_classes", ())),
    )


def _action(
    routed: RoutedAction, stream: Stream, operations: Operations
) -> ActionDescription | None:
    """Return the description of an action; None if the project or a permission hides it."""
    action = ActionDescription(
        routed.name,
        routed.aliases,
        routed.verbs,
        permissions=routed.permissions,
        throttles=routed.throttles,
        is_detail=routed.endpoint.is_detail,
        is_safe=routed.verbs[0].upper() in SAFE_METHODS,
    )
    if routed.name == "metadata" and routed.verbs == ("options",):
        doc = "Describe the row or the collection, as OPTIONS does over HTTP."
        return replace(action, doc=doc, response={"type": "object"}, errors=_errors(action))
    if routed.endpoint.seen_action is not None:
        return _subscription(action, routed.endpoint, stream, operations)
    found = [
        operations.by_verb[routed.endpoint, verb]
        for verb in routed.verbs
        if (routed.endpoint, verb) in operations.by_verb
    ]
    if not found:
        return None
    first = found[0]
    with_data = next((operation for operation in found if operation.request), first)
    method = getattr(stream.viewset, routed.name)
    is_streaming = inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method)
    page = _page(first, routed.endpoint, operations)
    action = replace(
        action,
        doc=first.doc,
        is_deprecated=first.is_deprecated,
        lookups=first.lookups,
        query=first.query,
        request=with_data.request,
        is_request_required=all(operation.is_request_required for operation in found),
        response=first.response,
        status=first.status,
        is_many=page is not None or _is_list(first.response),
        is_paginated=page is not None,
        is_streaming=is_streaming,
        subscription=_subscription_to(routed.name, stream),
        is_watchable="get" in routed.verbs
        and not is_streaming
        and not inspect.iscoroutinefunction(method),
    )
    declared = {status for operation in found for status in operation.errors}
    return replace(action, errors=tuple(sorted(declared.union(_errors(action)))))


def _subscription(
    action: ActionDescription, endpoint: Endpoint, stream: Stream, operations: Operations
) -> ActionDescription | None:
    shown = stream.actions[str(endpoint.seen_action)]
    operation = operations.by_verb.get((shown, "get"))
    if operation is None:
        return None
    response = operation.response
    if not action.is_detail and response is not None:
        page = _page(operation, shown, operations)
        response = response if page is None else {"type": "array", "items": page}
    pages = page_keys(configuration(shown, "pagination_class"))
    action = replace(
        action,
        doc=_SUBSCRIPTION_DOCS[action.name],
        lookups=operation.lookups,
        query=tuple(parameter for parameter in operation.query if parameter.name not in pages),
        response=response,
        status=201,
        is_many=not action.is_detail,
        subscribes=True,
        is_windowed=not action.is_detail,
    )
    return replace(action, errors=tuple(sorted({400, *operation.errors, *_errors(action)})))


_SUBSCRIPTION_DOCS: Final = {
    "subscribe": "Follow the filtered collection, as `list` returns it without pages.",
    "subscribe_instance": "Follow one row, as `retrieve` returns it.",
}


def _subscription_to(name: str, stream: Stream) -> str | None:
    for subscription, shown in SUBSCRIPTIONS.items():
        endpoint = stream.actions.get(subscription)
        if shown == name and endpoint is not None and endpoint.seen_action == name:
            return subscription
    return None


def _errors(action: ActionDescription) -> tuple[int, ...]:
    """Return the statuses of refusals by DRF itself, in view of what the action declares."""
    takes_input = action.lookups or action.query or action.request is not None
    found = {400} if takes_input else set()
    if set(action.permissions) - {AllowAny.__name__}:
        found |= {401, 403}
    if action.is_detail or action.lookups:
        found |= {400, 404}
    if action.throttles:
        found.add(429)
    return tuple(sorted(found))


def _is_list(schema: JsonSchema | None) -> bool:
    return schema is not None and schema.get("type") == "array"


def _page(operation: Operation, endpoint: Endpoint, operations: Operations) -> JsonSchema | None:
    """Return the schema of a row of the page that `operation` answers; None if it is not a page."""
    keys = page_keys(configuration(endpoint, "pagination_class"))
    if operation.response is None or not keys & {item.name for item in operation.query}:
        return None
    page = resolved(operation.response, operations.components)
    lists = [item for item in page.get("properties", {}).values() if _is_list(item)]
    return lists[0].get("items") if lists else None


def _row(stream: Stream, operations: Operations) -> JsonSchema | None:
    """Return the reference to the component of the rows: that of `retrieve`, or of `list`."""
    for name in ("retrieve", "list", "create", "update"):
        endpoint = stream.actions.get(name)
        if endpoint is None or endpoint.seen_action is not None:
            continue
        operation = operations.by_verb.get((endpoint, stream.verbs(name)[0]))
        if operation is None or operation.response is None:
            continue
        row = _page(operation, endpoint, operations) or operation.response
        row = row.get("items", {}) if _is_list(row) else row
        if component_name(row) is not None:
            return row
    return None


def _lookup(stream: Stream, operations: Operations) -> Parameter | None:
    viewset: Any = stream.viewset
    name = getattr(viewset, "lookup_url_kwarg", None) or getattr(viewset, "lookup_field", None)
    for key in described_endpoints(stream):
        operation = operations.by_verb.get(key)
        for lookup in operation.lookups if operation is not None else ():
            if lookup.name == name:
                return lookup
    return None


def _doc(item: Any) -> str:
    """Return the documentation of a class or method of the project, not of a base class."""
    return inspect.cleandoc(item.__doc__) if item.__doc__ else ""
