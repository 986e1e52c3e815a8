"""
Tables of the sockets in a document of AsyncAPI, a hook of mkdocs.

`<!-- sockets: assets/demo-sockets.json -->` in a page becomes a section for each stream
of the root: its actions, what they take and answer, and the events that follow. The
build makes it, so a browser needs no library.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

PLACE = re.compile(r"<!-- sockets: (\S+) -->")

# The parts of a frame that every action takes.
COMMON = {"action", "request_id", "headers", "fence", "method"}


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """Put the tables in the place of each comment."""
    folder = Path(page.file.abs_src_path).parent
    return PLACE.sub(
        lambda found: tables(json.loads((folder / found[1]).read_text())), markdown
    )


def tables(document: dict[str, Any]) -> str:
    """Return the streams of the first channel as Markdown."""
    return "\n\n".join(Sockets(document).sections())


class Sockets:
    """The first channel of a document, which is the root if there is one."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.channel = next(iter(document["channels"]))

    def sections(self) -> list[str]:
        channel = {"$ref": f"#/channels/{self.channel}"}
        by_stream: dict[str, list[dict[str, Any]]] = {}
        for operation in self.document["operations"].values():
            if operation["channel"] == channel:
                stream = operation["tags"][0]["name"]
                by_stream.setdefault(stream, []).append(operation)
        return [
            self.section(name, operations) for name, operations in by_stream.items()
        ]

    def section(self, name: str, operations: list[dict[str, Any]]) -> str:
        lines = [
            f"## `{name}`",
            "",
            "| action | verbs | data and query | answer |",
            "|---|---|---|---|",
        ]
        for operation in operations:
            if operation["action"] == "receive":
                lines += self.rows(operation)
        events = [
            operation for operation in operations if operation["action"] == "send"
        ]
        if events:
            lines += ["", "| events | are |", "|---|---|"]
        for operation in events:
            kinds = ", ".join(
                f"`{kind}`" for kind in self.actions_of(operation["messages"])
            )
            lines.append(f"| {operation['title']} | {kinds} |")
        return "\n".join(lines)

    def rows(self, operation: dict[str, Any]) -> list[str]:
        """Return a row for each frame: those of the connection are one operation."""
        answers = operation.get("reply", {}).get("messages", [])
        answer = (
            self.shown(self.property_of(answers[0], "data"))
            if len(answers) == 2
            else ""
        )
        verbs = " ".join(operation.get("x-verbs", []))
        return [
            f"| {self.names(message)} | {verbs} | {self.takes(message)} | {answer} |"
            for message in operation["messages"]
        ]

    def names(self, message: dict[str, Any]) -> str:
        return ", ".join(
            f"`{name}`" for name in words(self.property_of(message, "action"))
        )

    def takes(self, message: dict[str, Any]) -> str:
        properties = self.properties(message)
        query = properties.pop("query", {}).get("properties", {})
        data = properties.pop("data", None)
        keys = [f"`{key}`" for key in properties if key not in COMMON]
        parts = [self.shown(data)] if data is not None else []
        parts += keys + [f"`?{key}`" for key in query]
        return " ".join(part for part in parts if part)

    def actions_of(self, messages: list[dict[str, Any]]) -> list[str]:
        found = [
            name
            for item in messages
            for name in words(self.property_of(item, "action"))
        ]
        return list(dict.fromkeys(found))

    def property_of(self, message: dict[str, Any], name: str) -> Any:
        return self.properties(message).get(name, {})

    def properties(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return the message's own properties, without those of its envelope."""
        payload = self.resolved(message)["payload"]["properties"]["payload"]
        schema = self.resolved(payload)
        parts = schema.get("allOf", [schema])
        return dict(self.resolved(parts[-1]).get("properties", {}))

    def shown(self, schema: dict[str, Any]) -> str:
        """Return a schema in a few words: the name of its component, or its type."""
        if "$ref" in schema:
            return f"*{schema['$ref'].rpartition('/')[2].removesuffix('.input')}*"
        if schema.get("type") == "array":
            return f"{self.shown(schema['items'])} []"
        if "anyOf" in schema:
            options = [self.shown(item) for item in schema["anyOf"]]
            return " or ".join(option for option in options if option)
        kind = schema.get("type", "any" if not schema else "")
        return "" if kind == "null" else str(kind)

    def resolved(self, value: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in value:
            target: Any = self.document
            for key in value["$ref"].removeprefix("#/").split("/"):
                target = target[key]
            value = target
        return value


def words(schema: Any) -> list[str]:
    return list(schema.get("enum", [])) or [schema["const"]]
