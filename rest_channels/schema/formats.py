"""The text of a document in each format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured

from rest_channels.schema.asyncapi import Document


def to_json(document: Document) -> str:
    """Return a document as JSON with an indent, in the order of its keys."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def to_yaml(document: Document) -> str:
    """Return a document as YAML. Raises `ImproperlyConfigured` without PyYAML."""
    if not has_yaml():
        raise ImproperlyConfigured("YAML requires PyYAML: pip install pyyaml")
    yaml: Any = import_module("yaml")
    # Without aliases: parts that are equal are the same objects here.
    separate = json.loads(json.dumps(document))
    text: str = yaml.safe_dump(separate, sort_keys=False, allow_unicode=True, width=100)
    return text


def has_yaml() -> bool:
    """Return whether `to_yaml` can write YAML."""
    return find_spec("yaml") is not None


#: The formats of documents.
WRITERS: Final[Mapping[str, Callable[[Document], str]]] = {"json": to_json, "yaml": to_yaml}
