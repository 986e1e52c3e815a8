"""Streams as types of TypeScript: the `ViewSetType` and `RoomType` of the JavaScript client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from rest_channels.schema.description import ActionDescription, StreamDescription
from rest_channels.schema.operations import Parameter
from rest_channels.schema.typescript_components import ComponentTypes, Direction, description
from rest_channels.schema.typescript_text import Member, key, literal, object_type, union, words

# The client has methods of its own for these.
_METHODS: Final = frozenset(
    ["list", "retrieve", "create", "update", "partial_update", "destroy", "metadata"]
)
# `id` is the key of a row unless its type says otherwise.
_USUAL_KEYS: Final = ("pk", "id")


@dataclass(frozen=True)
class StreamTypes:
    """The types of streams whose schemas name components of `components`."""

    components: ComponentTypes

    def member(self, stream: StreamDescription) -> Member:
        """Return the property of `Streams` for `stream`."""
        types = {"hosted": _hosted, "rooms": self._rooms}
        write = types.get(stream.kind, self._viewset)
        comment = words(stream.doc)
        if stream.kind == "hosted":
            names = ", ".join(action.name for action in stream.actions)
            comment += ("A consumer of djangochannelsrestframework, which has no schema.",)
            comment += (f"Its actions: {names}.",) if names else ()
        return Member(str(stream.name), write(stream), comment=comment)

    def _viewset(self, stream: StreamDescription) -> str:
        return object_type([*self._rows(stream), *self._actions(stream)])

    def _rooms(self, stream: StreamDescription) -> str:
        room = stream.room
        if room is None:
            return object_type([Member("room", "any")])
        user, message, told = (
            self._received(room.user),
            self._sent(room.sent),
            self._received(room.told),
        )
        members = [Member("user", user), Member("message", message)]
        if told != object_type([Member("data", message)]):
            members.append(Member("event", told))
        return object_type([Member("room", object_type(members))])

    def _rows(self, stream: StreamDescription) -> Iterator[Member]:
        actions = {action.name: action for action in stream.actions}
        yield Member("row", self._received(stream.row))
        yield from self._key(stream)
        yield from self._lists(stream, actions)
        yield from self._writes(stream, actions)
        yield from self._lookups(stream)

    def _key(self, stream: StreamDescription) -> Iterator[Member]:
        row = self.components.resolve(stream.row or {})
        if stream.lookup is None:
            return
        if self._usual_key(stream) is None:
            field = stream.lookup.name
            option = f"{{ keys: {{ {key(str(stream.name))}: {literal(field)} }} }}"
            hint = f"The field `{field}`: connect(url, {option})"
            is_field = field in row.get("properties", {})
            yield Member("key", self._key_type(stream), comment=(hint,) if is_field else ())

    def _usual_key(self, stream: StreamDescription) -> Any:
        """Return the schema of the row's field `id`, if that is the key."""
        row = self.components.resolve(stream.row or {})
        is_usual = stream.lookup is not None and stream.lookup.name in _USUAL_KEYS
        return row.get("properties", {}).get("id") if is_usual else None

    def _key_type(self, stream: StreamDescription) -> str:
        if stream.lookup is None:
            return "string | number"
        usual = self._usual_key(stream)
        return self._sent(stream.lookup.schema) if usual is None else self._received(usual)

    def _lists(
        self, stream: StreamDescription, actions: dict[str, ActionDescription]
    ) -> Iterator[Member]:
        listed = actions.get("list")
        if listed is None:
            yield Member("list", "never")
        else:
            yield from self._items(stream, actions)
            if listed.response != {"type": "array", "items": stream.row}:
                yield Member("list", self._received(listed.response))
        if "retrieve" not in actions:
            yield Member("retrieve", "never")
        if listed is not None:
            yield Member("filters", self._query(listed.query, is_partial=True) or "never")

    def _items(
        self, stream: StreamDescription, actions: dict[str, ActionDescription]
    ) -> Iterator[Member]:
        """Yield the type of rows in lists, if `retrieve` shows more of them or less."""
        shown = actions.get("subscribe") or actions["list"]
        items = (shown.response or {}).get("items")
        if items is not None and items != stream.row:
            yield Member("item", self._received(items))

    def _writes(
        self, stream: StreamDescription, actions: dict[str, ActionDescription]
    ) -> Iterator[Member]:
        create, update, patch = map(actions.get, ("create", "update", "partial_update"))
        if create is not None:
            yield Member("create", self._sent(create.request), comment=_comment(create))
            yield from self._answer("created", create, stream)
        if update is not None:
            yield Member("update", self._sent(update.request), comment=_comment(update))
        if patch is None and update is not None:
            yield Member("patch", "never")
        elif patch is not None and (update is None or self._differs(patch, update)):
            yield Member("patch", self._sent(patch.request), comment=_comment(patch))
        if changed := update or patch:
            yield from self._answer("updated", changed, stream)
        if "destroy" in actions:
            yield Member("destroy", "true", comment=_comment(actions["destroy"]))

    def _answer(
        self, name: str, action: ActionDescription, stream: StreamDescription
    ) -> Iterator[Member]:
        """Yield the type of what a write answers, if it is not the row."""
        if action.response is None:
            if stream.row is not None:
                yield Member(name, "null")
        elif action.response != stream.row:
            yield Member(name, self._received(action.response))

    def _differs(self, patch: ActionDescription, update: ActionDescription) -> bool:
        """Return whether `patch` takes other fields: both have components of their own."""
        partial, whole = (
            self.components.resolve(action.request or {}) for action in (patch, update)
        )
        return bool(partial.get("properties") != whole.get("properties"))

    def _lookups(self, stream: StreamDescription) -> Iterator[Member]:
        own = stream.lookup.name if stream.lookup else "pk"
        found = {
            lookup.name: Member(lookup.name, self._lookup(lookup), comment=words(lookup.doc))
            for action in stream.actions
            for lookup in action.lookups
            if lookup.name != own
        }
        if found:
            yield Member("lookups", object_type([found[name] for name in sorted(found)]))

    def _lookup(self, lookup: Parameter) -> str:
        """Return the type of a value of the URL, where a number is as good as its text."""
        type_ = self._sent(lookup.schema)
        return "string | number" if type_ == "string" else type_

    def _actions(self, stream: StreamDescription) -> Iterator[Member]:
        members = [
            Member(action.name, self._action(action, stream), comment=_comment(action))
            for action in stream.actions
            if action.name not in _METHODS and not action.subscribes and _is_called(action)
        ]
        if members:
            yield Member("actions", object_type(members))

    def _action(self, action: ActionDescription, stream: StreamDescription) -> str:
        if action.message is not None:
            return object_type(
                [Member("data", "unknown", is_optional=True), _UNKNOWN_OUTPUT, _UNWATCHED]
            )
        members = [Member("pk", self._key_type(stream))] if action.is_detail else []
        if action.request is not None:
            is_optional = not action.is_request_required
            members.append(Member("data", self._sent(action.request), is_optional=is_optional))
        if query := self._query(action.query):
            is_optional = not any(parameter.is_required for parameter in action.query)
            members.append(Member("query", query, is_optional=is_optional))
        if len(action.verbs) > 1:
            members.append(Member("method", union(map(literal, action.verbs)), is_optional=True))
        if action.response is not None:
            kind = "item" if action.is_streaming else "output"
            members.append(Member(kind, self._received(action.response)))
        return object_type(members if action.is_watchable else [*members, _UNWATCHED])

    def _query(self, parameters: Iterable[Parameter], *, is_partial: bool = False) -> str:
        """Return the type of a frame's `query`, an empty text if there is nothing to ask for."""
        members = [
            Member(
                parameter.name,
                self._value(parameter),
                is_optional=not (parameter.is_required or is_partial),
                comment=(*words(parameter.doc), *description(parameter.schema)),
            )
            for parameter in parameters
        ]
        return object_type(members) if members else ""

    def _value(self, parameter: Parameter) -> str:
        if parameter.is_many:
            item = self._sent(parameter.schema.get("items"))
            return f"{item} | readonly ({item})[]" if " " in item else f"{item} | readonly {item}[]"
        return self._sent(parameter.schema)

    def _received(self, schema: Any) -> str:
        return self.components.expression(True if schema is None else schema, Direction.OUTPUT)

    def _sent(self, schema: Any) -> str:
        return self.components.expression(True if schema is None else schema, Direction.INPUT)


_UNWATCHED: Final = Member("watch", "false")
_UNKNOWN_OUTPUT: Final = Member("output", "unknown")


def _hosted(stream: StreamDescription) -> str:
    return "any"


def _comment(action: ActionDescription) -> tuple[str, ...]:
    return (*words(action.doc), *(("@deprecated",) if action.is_deprecated else ()))


def _is_called(action: ActionDescription) -> bool:
    """Return whether a frame with the name of the action calls it: a handler may filter by more."""
    if action.message is None:
        return True
    properties = action.message.get("properties", {})
    return bool(properties.get("action") == {"const": action.name})
