"""
The handlers of a class: methods decorated with `@consumer`, in the order in which they are asked.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, overload

from django.core.exceptions import ImproperlyConfigured

from rest_channels.consumers.filters import Filter, resolved

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Declaration:
    """What `@consumer` says of a method."""

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

    With and without parentheses. `channel_name` is the internal channel it listens on in place of
    its class's. `decorators` are applied within the class's own, the first of them outermost.
    Each filter is a regular expression, a plain value, or a callable that takes the class and the
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
                f"{method.__qualname__} is a generator, which nobody would iterate: send each "
                "item by self.reply(item)."
            )
        method.consumer = declaration  # type: ignore[attr-defined]
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
        """What the filters captured; None where one of them does not match."""
        captured: dict[str, str] = {}
        for item in self.filters:
            found = item.match(content) if isinstance(content, Mapping) else None
            if found is None:
                return None
            captured.update(found)
        return captured

    def arguments(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Those of `kwargs` that the method takes."""
        return accepted_keywords(self.method, kwargs)

    def __str__(self) -> str:
        return f"{self.name}  {' '.join(map(str, self.filters))}".rstrip()


def find_handlers(cls: Any, initkwargs: Mapping[str, Any]) -> list[Handler]:
    """
    The handlers of `cls`: its own in the order of their definition, then what it inherits. Of a
    method that is overridden, only the overriding one counts.
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
    """A handler called `reply` would be what handlers reply by: a mistake that nothing shows."""
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
    Those of `kwargs` that `method`, a function of the class, names; where it takes any, all but
    those that are called as the instance and the message are.
    """
    taken, named, takes_any = _parameters(method)
    return {k: v for k, v in kwargs.items() if k in named or (takes_any and k not in taken)}


@lru_cache(maxsize=1024)
def _parameters(method: Callable[..., Any]) -> tuple[frozenset[str], frozenset[str], bool]:
    """The names of the instance and the message, those of other parameters, and `**kwargs`."""
    parameters = list(inspect.signature(method).parameters.values())
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    own = [p for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
    taken = frozenset(p.name for p in own[:2])
    return taken, frozenset(p.name for p in own[2:] if p.kind in by_name), takes_any
