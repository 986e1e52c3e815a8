"""Components of an API as types of TypeScript: the row, and the input, of each."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rest_channels.schema.typescript_components import (
    ComponentTypes,
    Direction,
    UnknownComponent,
    description,
)
from tests.support.odd_serializers import odd_components

pytestmark = pytest.mark.once

OUTPUT, INPUT = Direction.OUTPUT, Direction.INPUT

# As drf-spectacular makes them for OpenAPI 3.0, for 3.1, and with components of their own for
# requests.
FLAVOURS = [{}, {"OAS_VERSION": "3.1.0"}, {"COMPONENT_SPLIT_REQUEST": True}]


def declared(schemas: dict[str, Any], *uses: tuple[str, Direction]) -> dict[str, str]:
    """Return the declarations by name, after a use of each of these components."""
    types = ComponentTypes(schemas, frozenset({"Streams"}))

    def use() -> None:
        for name, direction in uses:
            types.expression({"$ref": f"#/components/schemas/{name}"}, direction)

    types.name_uses(use)
    texts = list(types.declarations())
    return {re.search(r"export \w+ (\w+)", text)[1]: text for text in texts}


def fields(declaration: str) -> dict[str, str]:
    """Return the types of an interface by key, the question mark being part of the key."""
    body = declaration.partition(" {\n")[2]
    return dict(line.strip(" ;").split(": ", 1) for line in body.split("\n") if line[-1:] == ";")


def one(schema: Any, direction: Direction = OUTPUT) -> str:
    return ComponentTypes({}).expression(schema, direction)


@pytest.fixture(params=FLAVOURS, ids=lambda settings: str(*settings) or "plain")
def odd(request: pytest.FixtureRequest) -> dict[str, str]:
    schemas = odd_components(**request.param)
    name = "OddRequest" if "OddRequest" in schemas else "Odd"
    return declared(schemas, ("Odd", OUTPUT), (name, INPUT))


def test_a_row_has_every_field_that_is_not_write_only(odd: dict[str, str]) -> None:
    assert fields(odd["Odd"]) == {
        "id": "number",
        "big": "number",
        "price": "string",
        "weight": "number",
        "at": "string",
        "day": "string | null",
        "kind": 'KindEnum | "" | null',
        "level": "LevelEnum",
        "marks": "MarksEnum[]",
        "image": "string | null",
        "extra": "unknown",
        "counts": "{ [key: string]: number }",
        "lines": "(string | null)[][]",
        "group": "Group",
        "former_group": "Group | null",
        "tree": "Node",
        "pet": "Pet",
        "is_open": "boolean",
        '"da-sh"': "string",
        '"1st"': "string",
    }


def test_input_has_every_field_that_is_not_read_only(odd: dict[str, str]) -> None:
    assert fields(odd["OddRequest"]) == {
        "big": "number",
        "price": "string",
        "weight": "number",
        "day": "string | null",
        "kind": 'KindEnum | "" | null',
        "level": "LevelEnum",
        "marks?": "MarksEnum[]",
        "extra?": "unknown",
        "lines?": "(string | null)[][]",
        "secret?": "string",
        "group": "GroupRequest",
        "tree?": "NodeRequest",
        "is_open?": "boolean",
        '"da-sh"': "string",
        '"1st"?': "string",
    }


def test_components_that_refer_to_each_other(odd: dict[str, str]) -> None:
    assert fields(odd["Node"]) == {"name": "string", "children": "Node[]"}
    assert fields(odd["NodeRequest"]) == {"name": "string", "children?": "NodeRequest[]"}
    assert fields(odd["GroupRequest"]) == {"name": "string"}
    assert odd["Pet"] == ('export type Pet = (Cat & { kind: "cat" }) | (Dog & { kind: "dog" });')
    assert odd["LevelEnum"].endswith("export type LevelEnum = 1 | 2;")


def test_comments_have_help_texts_and_the_way_values_are_sent(odd: dict[str, str]) -> None:
    row = odd["Odd"]
    assert "/**\n * A row of everything.\n *\n * With a second paragraph.\n */\n" in row
    assert '  /** Decimal as text, such as "12.50". */\n  price' in row
    assert "  /** Date and time as text, ISO 8601. */\n  at" in row
    assert '  /** Date as text, such as "2026-11-28". */\n  day' in row
    big = "   * Bytes on disk.\n   * A number: beyond 2 ** 53 JavaScript rounds it.\n   */\n  big"
    assert big in row
    assert "   * How much.\n   *\n   * * `1` - Low\n" in row
    assert "Default: false." in odd["OddRequest"]
    assert "From 0 to 9." in odd["Cat"]


def test_a_comment_does_not_end_early(odd: dict[str, str]) -> None:
    assert "/** The name, not *\\/ the end. */" in odd["Node"]
    assert "may end in *\\/ a comment" in odd["Node"]


def test_the_order_of_components_makes_no_difference() -> None:
    schemas = odd_components()
    uses = [("Odd", OUTPUT), ("Odd", INPUT)]
    backwards = dict(reversed(schemas.items()))
    assert list(declared(schemas, *uses).items()) == list(declared(backwards, *uses[::-1]).items())


def test_only_components_that_are_used_are_declared() -> None:
    schemas = odd_components()
    assert list(declared(schemas, ("Group", INPUT))) == ["Group"]
    assert fields(declared(schemas, ("Group", INPUT))["Group"]) == {"name": "string"}


def test_equal_rows_and_input_share_a_type() -> None:
    schemas = odd_components()
    assert list(declared(schemas, ("Cat", INPUT), ("Cat", OUTPUT))) == ["Cat"]


def test_an_input_that_differs_only_in_a_part_has_a_type_of_its_own() -> None:
    whole = {"properties": {"part": {"$ref": "#/components/schemas/Part"}}, "required": ["part"]}
    part = {"type": "object", "properties": {"a": {"type": "string"}}}
    found = declared(
        {"Whole": {"type": "object", **whole}, "Part": part}, ("Whole", OUTPUT), ("Whole", INPUT)
    )
    assert list(found) == ["Part", "PartRequest", "Whole", "WholeRequest"]


NAMES = {
    "v1.Message": "v1_Message",
    "Größe": "Gr_e",
    "2nd": "_2nd",
    "string": "_string",
    "Streams": "Streams2",
    "class": "_class",
    "a b": "a_b",
    "a-b": "a_b2",
}


def test_names_are_names_in_typescript() -> None:
    text = {"type": "string", "maxLength": 3}
    found = declared(dict.fromkeys(NAMES, text), *((name, OUTPUT) for name in NAMES))
    assert sorted(found) == sorted(NAMES.values())


def test_names_of_input_are_free() -> None:
    schema = {"type": "object", "properties": {"id": {"type": "integer", "readOnly": True}}}
    schemas: dict[str, Any] = {"A": schema, "ARequest": schema}
    found = declared(schemas, ("A", OUTPUT), ("A", INPUT), ("ARequest", OUTPUT))
    assert list(found) == ["A", "ARequest", "ARequest2"]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, "unknown"),
        (True, "unknown"),
        (False, "never"),
        ({"type": "object"}, "{ [key: string]: unknown }"),
        ({"type": "array"}, "unknown[]"),
        ({"type": ["integer", "null"]}, "number | null"),
        ({"type": "array", "items": {"type": ["integer", "null"]}}, "(number | null)[]"),
        ({"type": "array", "items": {"enum": ["a|b", "c"]}}, '("a|b" | "c")[]'),
        ({"type": "array", "items": {"enum": ["a | b"]}}, '"a | b"[]'),
        ({"prefixItems": [{"type": "string"}, {}], "type": "array"}, "[string, unknown]"),
        ({"enum": [1, "1", None, True], "nullable": True}, '1 | "1" | true | null'),
        ({"enum": ['"', "*/", "\n", "é"]}, '"\\"" | "*/" | "\\n" | "\\u00e9"'),
        ({"enum": [["a"]]}, "unknown"),
        ({"const": "a"}, '"a"'),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string | null"),
        ({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 0}]}, "string"),
        ({"oneOf": [{"type": "string"}, {}]}, "unknown"),
        ({"allOf": [{"type": "string"}], "nullable": True}, "string | null"),
        (
            {"allOf": [{"anyOf": [{"type": "string"}, {"type": "number"}]}, {"type": "string"}]},
            "(string | number) & string",
        ),
        (
            {
                "properties": {"a": {"type": "string"}},
                "required": ["a"],
                "additionalProperties": {},
            },
            "{ a: string } & { [key: string]: unknown }",
        ),
        (
            {"properties": {"a": {"type": "string"}, "b": {"type": "number"}}, "required": ["a"]},
            "{ a: string; b?: number }",
        ),
        (
            {"properties": {"a": {"type": "string", "description": "An A."}}},
            "{\n  /** An A. */\n  a?: string;\n}",
        ),
        ({"properties": {}, "additionalProperties": False, "type": "object"}, "{}"),
        ({"type": "strange"}, "unknown"),
    ],
)
def test_schemas_in_place(schema: Any, expected: str) -> None:
    assert one(schema) == expected


@pytest.mark.parametrize(
    ("schema", "comment"),
    [
        ({"type": "integer"}, ()),
        (
            {"type": "integer", "maximum": 2**53},
            ("A number: beyond 2 ** 53 JavaScript rounds it.",),
        ),
        ({"type": ["integer", "null"], "minimum": 1}, ("At least 1.",)),
        (
            {"type": ["string", "null"], "format": "int64"},
            ("Integer as text, because JavaScript rounds numbers beyond 2 ** 53.",),
        ),
        (
            {"type": "string", "format": "email", "description": "A user's\nown. "},
            ("A user's", "own.", "", "Email address."),
        ),
        (
            {"type": "string", "maxLength": 3, "default": "a"},
            ('At most 3 characters. Default: "a".',),
        ),
        (
            {"oneOf": [{"format": "date"}, {"type": "null"}]},
            ('Date as text, such as "2026-11-28".',),
        ),
    ],
)
def test_comments_of_values(schema: Any, comment: tuple[str, ...]) -> None:
    assert description(schema) == comment


def test_a_schema_in_place_says_what_it_leaves_out() -> None:
    schema = {"properties": {"a": {"readOnly": True}, "b": {"writeOnly": True}, "c": {}}}
    assert one(schema, OUTPUT) == "{ a?: unknown; c?: unknown }"
    assert one(schema, INPUT) == "{ b?: unknown; c?: unknown }"


def test_several_values_may_choose_one_component() -> None:
    schema = {
        "oneOf": [{"$ref": "#/components/schemas/A"}, {"type": "null"}],
        "discriminator": {
            "propertyName": "kind-of",
            "mapping": dict.fromkeys(["a", "b"], "#/components/schemas/A"),
        },
    }
    types = ComponentTypes({"A": {"type": "object", "properties": {"x": {}}}})
    assert types.expression(schema, OUTPUT) == '(A & { "kind-of": "a" | "b" }) | null'


def test_a_component_that_is_missing_is_named() -> None:
    with pytest.raises(UnknownComponent, match="'#/components/schemas/B' is not a component"):
        one({"$ref": "#/components/schemas/B"})
