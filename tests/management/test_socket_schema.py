"""`manage.py socket_schema`."""

from __future__ import annotations

import io
import json
import os

import pytest
import yaml
from channels.routing import ProtocolTypeRouter
from django.core.management import CommandError, call_command
from rest_framework import serializers, viewsets
from rest_framework.permissions import AllowAny

from rest_channels.routers import DefaultRouter, SimpleRouter
from tests.models import Room

pytestmark = pytest.mark.once


class RoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["id", "name"]


class LoudRoomSerializer(RoomSerializer):
    loud = serializers.SerializerMethodField()

    class Meta(RoomSerializer.Meta):
        fields = ["id", "name", "loud"]

    def get_loud(self, room):
        return True


def application_with(serializer, router_class=DefaultRouter):
    attributes = {
        "queryset": Room.objects.all(),
        "serializer_class": serializer,
        "permission_classes": [AllowAny],
    }
    router = router_class()
    router.register("rooms", type("RoomViewSet", (viewsets.ModelViewSet,), attributes))
    return ProtocolTypeRouter({"websocket": router.as_asgi()})


quiet = application_with(RoomSerializer)
loud = application_with(LoudRoomSerializer)
rootless = application_with(RoomSerializer, SimpleRouter)
nothing = ProtocolTypeRouter({})


def socket_schema(name, *arguments):
    out, err = io.StringIO(), io.StringIO()
    options = {"stdout": out, "stderr": err, "no_color": True}
    call_command("socket_schema", *arguments, "--application", f"{__name__}.{name}", **options)
    return out.getvalue()


def test_it_writes_json_and_the_same_as_yaml():
    text = socket_schema("quiet", "--server", "wss://example.com")
    document = json.loads(text)
    assert document["servers"]["server"]["host"] == "example.com"
    assert "Room" in document["components"]["schemas"]
    written = socket_schema("quiet", "--format", "yaml", "--server", "wss://example.com")
    assert yaml.safe_load(written) == document
    assert "&id" not in written


@pytest.mark.parametrize(("suffix", "kind"), [(".json", "json"), (".yaml", "yaml"), (".ts", "ts")])
def test_check_passes_while_nothing_has_changed(tmp_path, suffix, kind):
    file = tmp_path / f"sockets{suffix}"
    file.write_text(socket_schema("quiet", "--format", kind))
    assert socket_schema("quiet", "--check", str(file)) == ""


def test_check_fails_with_the_difference_and_the_command_to_type(tmp_path, capsys):
    file = tmp_path / "sockets.json"
    file.write_text(socket_schema("quiet"))
    err = io.StringIO()
    with pytest.raises(CommandError) as caught:
        name = f"{__name__}.loud"
        call_command("socket_schema", check=file, application=name, stderr=err, no_color=True)
    difference = err.getvalue()
    assert difference.startswith(f"--- {file}\n+++ the project's sockets\n")
    assert '+          "loud": {' in difference.splitlines()
    assert str(caught.value) == (
        f"{file} is out of date. Write it again: python manage.py socket_schema --format json "
        f"--application {__name__}.loud --output {file}"
    )
    # drf-spectacular's own warning about the method without a type.
    assert "unable to resolve type hint for function" in capsys.readouterr().err


def test_check_of_no_file_fails_with_the_command_to_type(tmp_path):
    with pytest.raises(CommandError, match=r"does not exist\. Write it: python manage\.py"):
        socket_schema("quiet", "--check", str(tmp_path / "sockets.json"))


def test_output_is_written_as_its_suffix_says_once(tmp_path):
    file = tmp_path / "sockets.ts"
    assert socket_schema("quiet", "--output", str(file)) == f"Wrote {file}\n"
    assert file.read_text() == socket_schema("quiet", "--format", "ts")
    assert "export interface Streams {" in file.read_text()
    os.utime(file, (1, 1))
    assert socket_schema("quiet", "--output", str(file)) == f"{file} is up to date.\n"
    assert file.stat().st_mtime == 1
    socket_schema("loud", "--output", str(file))
    assert "  loud: " in file.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["sockets.ts"]


def test_output_needs_its_folder(tmp_path):
    with pytest.raises(CommandError, match=r"front is not a folder\. Make it"):
        socket_schema("quiet", "--output", str(tmp_path / "front" / "sockets.ts"))


def test_types_need_a_root():
    with pytest.raises(CommandError, match=r"rest_channels\.routers\.DefaultRouter"):
        socket_schema("rootless", "--format", "ts")


def test_watching_needs_a_file():
    with pytest.raises(CommandError, match="add --output FILE"):
        socket_schema("quiet", "--watch")


def test_it_tells_what_to_do_where_there_are_no_sockets():
    with pytest.raises(CommandError, match=r"socket_schema --application project\.asgi"):
        socket_schema("nothing")
