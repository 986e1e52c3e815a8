"""The actions of a viewset's socket, with the names, verbs and classes that clients depend on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rest_channels.sockets.endpoints import SUBSCRIPTIONS, Endpoint
from rest_channels.sockets.streams import ALIASES, Stream


@dataclass(frozen=True)
class RoutedAction:
    """
    An action that clients can call.

    `aliases` are DCRF's names for it. `verbs` are lowercase, the default one first. `permissions`
    and `throttles` are names of classes; `OR(A, B)` stands for `A | B`.
    """

    name: str
    endpoint: Endpoint
    aliases: tuple[str, ...]
    verbs: tuple[str, ...]
    permissions: tuple[str, ...]
    throttles: tuple[str, ...]


def routed_actions(stream: Stream, *, is_row: bool) -> Iterator[RoutedAction]:
    """Yield the actions in the order of their URLs, then subscriptions, then DRF's metadata."""
    for name, endpoint in _routed(stream, is_row=is_row):
        yield RoutedAction(
            name,
            endpoint,
            aliases=tuple(
                word
                for word, action in ALIASES.items()
                if action == name and word not in stream.actions
            ),
            verbs=tuple(stream.verbs(name)) if name in stream.actions else ("options",),
            permissions=class_names(configuration(endpoint, "permission_classes")),
            throttles=class_names(configuration(endpoint, "throttle_classes")),
        )


def configuration(endpoint: Endpoint, name: str) -> Any:
    """Return an attribute of the view behind `endpoint`, as its `@action` or route sets it."""
    callback = endpoint.pattern.callback
    return callback.initkwargs.get(name, getattr(callback.cls, name, None))


def class_names(classes: Iterable[Any]) -> tuple[str, ...]:
    """Return the names of classes; permissions may be combined by `&`, `|` and `~`."""
    return tuple(map(_class_name, classes))


def _routed(stream: Stream, *, is_row: bool) -> Iterator[tuple[str, Endpoint]]:
    endpoints = [e for e in stream.endpoints if e.is_detail or not is_row]
    for endpoint in endpoints:
        for action in dict.fromkeys(endpoint.mapping.values()):
            if stream.actions[action] is endpoint:
                yield action, endpoint
    for action in SUBSCRIPTIONS:
        found = stream.actions.get(action)
        # Without `seen_action`, it is the viewset's own, listed above.
        if found and found.seen_action and (found.is_detail or not is_row):
            yield action, found
    if "metadata" not in stream.actions and stream.viewset.metadata_class is not None:
        yield "metadata", endpoints[0]


def _class_name(item: Any) -> str:
    # Classes combined by & | ~ are holders with operands of their own.
    operator = getattr(item, "operator_class", None)
    if operator is None:
        name: str = item.__name__
        return name
    names = [
        _class_name(getattr(item, operand))
        for operand in ("op1_class", "op2_class")
        if hasattr(item, operand)
    ]
    return f"{operator.__name__}({', '.join(names)})"
