"""The query keys that a viewset's paginator and filter backends declare."""

from __future__ import annotations

from rest_framework.viewsets import ViewSetMixin


def declared_query_keys(viewset: type[ViewSetMixin]) -> frozenset[str]:
    """Return the query keys that the viewset's paginator and filter backends declare."""
    backends = list(getattr(viewset, "filter_backends", []))
    keys = page_keys(getattr(viewset, "pagination_class", None))
    for backend in backends:
        keys |= _declared_keys(backend)
    return frozenset(keys | _filterset_keys(viewset, backends))


def page_keys(paginator: type | None) -> set[str]:
    """Return the query keys that a pagination class declares."""
    return set() if paginator is None else _declared_keys(paginator)


def _declared_keys(backend: type) -> set[str]:
    return {
        getattr(backend, name)
        for name in dir(backend)
        if name.endswith("_param") and isinstance(getattr(backend, name), str)
    }


def _filterset_keys(viewset: type[ViewSetMixin], backends: list[type]) -> set[str]:
    queryset = getattr(viewset, "queryset", None)
    keys: set[str] = set()
    for backend in backends:
        if not hasattr(backend, "get_filterset_class"):
            continue
        declares = getattr(viewset, "filterset_class", None) or queryset is not None
        filterset = backend().get_filterset_class(viewset(), queryset) if declares else None
        if filterset is not None:
            keys |= filterset.base_filters.keys()
    return keys
