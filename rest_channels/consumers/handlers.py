"""The handlers of a class: methods decorated with `@consumer`, in the order of their definition."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, overload

from django.core.exceptions import ImproperlyConfigured

from rest_channels.consumers.message_filters import Filter, resolved

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Declaration:
    """The arguments of a method's `@consumer`."""

    channel_name: Any
    decorators: tuple[Callable[..., Any], ...]
    filters: Mapping[str, Any]


@overload
def consumer(method: F, /) -> F: ...
@overload
def consumer(
    *, channel_name: Any = None, decorators: Iterable[Callable[..., Any]] = (), **filters: Any
) -> Callable[[F], F]: ...
def consumer(
    method: Any = None,
    /,
    *,
    channel_name: Any = None,
    decorators: Iterable[Callable[..., Any]] = (),
    **filters: Any,
) -> Any:
    """
    Make a method a handler of the messages that match `filters`; without filters, of all.

    Works with and without parentheses. `channel_name` is the internal channel it listens on, if not
    its class's. `decorators` are applied inside the class's own, the first of them outermost. Each
    filter is a regular expression, a plain value, or a callable that takes the class and the
    keywords of `as_routes` and returns one of these.
    """
    declaration = Declaration(channel_name, tuple(decorators), filters)

    def declare(method: F) -> F:
        if not inspect.isfunction(method):
            raise ImproperlyConfigured(
                f"@consumer decorates a method, not {method!r}. Filters are keywords: "
                "@consumer(command='send')."
            )
        if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
            raise ImproperlyConfigured(
                f"{method.__qualname__} is a generator, which would never be iterated: send each "
                "item by self.reply(item)."
            )
        method.consumer = declaration  # type: ignore[attr-defined]  # marks the handler
        return method

    return declare if method is None else declare(method)


@dataclass(frozen=True)
class Handler:
    """A method of a configured class, with its filters resolved and its channel known."""

    name: str
    channel_name: str | None
    decorators: tuple[Callable[..., Any], ...]
    filters: tuple[Filter, ...]
    method: Callable[..., Any]

    def match(self, content: Any) -> dict[str, str] | None:
        """Return what the filters captured; None if one of them does not match."""
        captured: dict[str, str] = {}
        for item in self.filters:
            found = item.match(content) if isinstance(content, Mapping) else None
            if found is None:
                return None
            captured.update(found)
        return captured

    def arguments(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the items of `kwargs` that the method takes."""
        return accepted_keywords(self.method, kwargs)

    def __str__(self) -> str:
        return f"{self.name}  {' '.join(map(str, self.filters))}".rstrip()


def find_handlers(cls: Any, initkwargs: Mapping[str, Any]) -> list[Handler]:
    """
    Return the handlers of `cls`: its own in the order of their definition, then inherited ones.

    An overridden method counts only as its override.
    """
    return [_handler(cls, name, method, initkwargs) for name, method in _declared(cls)]


def _declared(cls: type) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for base in cls.__mro__:
        for name, member in vars(base).items():
            if name not in seen and isinstance(getattr(member, "consumer", None), Declaration):
                _require_free(cls, name)
                yield name, member
            seen.add(name)


def _require_free(cls: type, name: str) -> None:
    """Refuse a handler that hides a method: one called `reply` would replace the way to reply."""
    for base in cls.__mro__:
        member = vars(base).get(name)
        is_ours = base.__module__.startswith("rest_channels.") and member is not None
        if is_ours and not isinstance(getattr(member, "consumer", None), Declaration):
            raise ImproperlyConfigured(
                f"{cls.__qualname__}.{name} is a handler and hides {base.__name__}.{name}: give "
                f"it another name, such as handle_{name}."
            )


def _handler(cls: Any, name: str, method: Any, initkwargs: Mapping[str, Any]) -> Handler:
    declared: Declaration = method.consumer
    return Handler(
        name,
        resolved(declared.channel_name, cls, initkwargs),
        declared.decorators,
        tuple(
            Filter(key, resolved(wanted, cls, initkwargs))
            for key, wanted in declared.filters.items()
        ),
        method,
    )


def accepted_keywords(method: Callable[..., Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the items of `kwargs` that `method`, a function of the class, names.

    If it takes any keywords, return all except the names of its instance and message parameters.
    """
    taken, named, takes_any = _parameters(method)
    return {k: v for k, v in kwargs.items() if k in named or (takes_any and k not in taken)}


@lru_cache(maxsize=1024)
def _parameters(method: Callable[..., Any]) -> tuple[frozenset[str], frozenset[str], bool]:
    """
    Return the names of the instance and the message, those of other parameters, and `**kwargs`.
    """
    parameters = list(inspect.signature(method).parameters.values())
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    own = [p for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
    taken = frozenset(p.name for p in own[:2])
    return taken, frozenset(p.name for p in own[2:] if p.kind in by_name), takes_any
