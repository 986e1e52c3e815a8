"""The types of whole projects, compiled with programs of their front ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from rest_channels.schema.description import (
    ActionDescription,
    ApiDescription,
    SocketDescription,
    StreamDescription,
)
from rest_channels.schema.operations import Parameter
from rest_channels.schema.typescript import named_roots, typescript
from tests.support.distribution import ROOT
from tests.support.typescript_programs import compiler, errors
from tests.support.walkthrough import blocks

pytestmark = pytest.mark.once

PROGRAMS = Path(__file__).parent / "programs"
DEMO_TYPES = ROOT / "demo" / "kanban" / "front" / "src" / "socket-api.ts"


def socket_schema(settings: str, *arguments: str | Path, path: Path = ROOT) -> str:
    """Return the output of the command in the project with these settings; it must succeed."""
    python_path = os.pathsep.join([str(ROOT), str(path)])
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": settings, "PYTHONPATH": python_path}
    command = [sys.executable, "-m", "django", "socket_schema", *arguments]
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_front_end_of_the_demo_has_the_types_of_its_serializers() -> None:
    socket_schema("multichat.settings", "--check", DEMO_TYPES, path=ROOT / "demo")


def test_programs_compile_or_not_as_they_should(tmp_path: Path) -> None:
    """The programs say themselves which of their lines have errors; so do those of the docs."""
    programs = tmp_path / "programs"
    shutil.copytree(PROGRAMS, programs)
    shutil.copy(DEMO_TYPES, programs / "demo.ts")
    socket_schema("tests.support.projects.odd_project", "--output", programs / "odd.ts")
    examples = [block.text for block in blocks(ROOT / "docs" / "types.md")]
    examples = [text for text in examples if 'from "./socket-api"' in text]
    assert len(examples) == 2
    for number, text in enumerate(examples):
        (programs / "tutorial" / f"example{number}.ts").write_text(text)
    assert errors(compiler(tmp_path / "compiler"), programs) == []


def socket(path: str, *streams: StreamDescription, is_root: bool = True) -> SocketDescription:
    return SocketDescription(path, is_root, False, (), streams)


def viewset(name: str, *actions: ActionDescription, **options: Any) -> StreamDescription:
    values = {"kind": "viewset", "doc": "", "row": None, "lookup": None, **options}
    return StreamDescription(name, actions=actions, **values)


def streams_of(*streams: StreamDescription, **components: Any) -> str:
    """Return the text of the type `Streams`."""
    text = typescript(ApiDescription((socket("/", *streams),), components))
    return text.partition("export interface Streams ")[2]


def test_a_project_without_a_root_learns_what_to_do() -> None:
    sockets = (socket("/messages/", viewset("messages"), is_root=False),)
    with pytest.raises(ImproperlyConfigured, match=r"rest_channels\.routers\.DefaultRouter"):
        typescript(ApiDescription(sockets, {}))


def test_the_shortest_root_is_streams_and_others_are_named_by_their_paths() -> None:
    paths = ["/api/v2/", "/ws/", "/v2/", "/v-2/", "/{pk}/"]
    roots = named_roots([*map(socket, paths), socket("/x/", is_root=False)])
    assert {name: root.path for name, root in roots.items()} == {
        "Streams": "/ws/",
        "V2Streams": "/v2/",
        "V2Streams2": "/v-2/",
        "PkStreams": "/{pk}/",
        "ApiV2Streams": "/api/v2/",
    }


def test_a_component_with_the_name_of_a_root_gets_another() -> None:
    row = {"$ref": "#/components/schemas/Streams"}
    schema = {"type": "object", "properties": {"id": {"type": "integer"}}}
    text = typescript(ApiDescription((socket("/", viewset("a", row=row)),), {"Streams": schema}))
    assert "export interface Streams2 {\n  id: number;\n}" in text
    assert "row: Streams2;" in text


def test_a_viewset_of_which_nothing_is_known() -> None:
    list_, create = ActionDescription("list", verbs=("get",)), ActionDescription("create")
    assert streams_of(viewset("a", list_, create)) == (
        "{\n  a: {\n    row: unknown;\n    list: unknown;\n    retrieve: never;\n"
        "    filters: never;\n    create: unknown;\n  };\n}\n"
    )


def test_a_patch_that_takes_other_fields_has_a_type_of_its_own() -> None:
    def schema(name: str) -> Any:
        return {"type": "object", "properties": {name: {"type": "string"}}}

    update = ActionDescription("update", request=schema("a"))
    equal = ActionDescription("partial_update", request=schema("a"))
    other = ActionDescription("partial_update", request=schema("b"))
    assert "patch" not in streams_of(viewset("a", update, equal))
    assert " patch: { b?: string };" in streams_of(viewset("a", update, other))
    assert " patch: never;" in streams_of(viewset("a", update))


def test_the_key_is_that_of_the_url() -> None:
    row = {"properties": {"id": {"type": "integer"}}}
    by_id = Parameter("pk", {"type": "integer"})
    by_slug = Parameter("slug", {"type": "string"})
    assert "key" not in streams_of(viewset("a", row=row, lookup=by_id))
    assert " key: string;" in streams_of(viewset("a", row=row, lookup=by_slug))
    assert " key: number;" in streams_of(viewset("a", row={"properties": {}}, lookup=by_id))


def test_comments_and_names_do_not_break_the_text() -> None:
    doc = "Ends */ here.\n\n    export const x = 1;  "
    action = ActionDescription("watch-it", doc=doc, verbs=("get",), is_watchable=True)
    text = streams_of(viewset('a"b', action, doc=doc))
    assert (
        '  /**\n   * Ends *\\/ here.\n   *\n   *     export const x = 1;\n   */\n  "a\\"b": {'
        in text
    )
    assert '      "watch-it": {};' in text
