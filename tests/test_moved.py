"""Old paths of modules: imports and settings of an older release keep working."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest
from django.utils.module_loading import import_string

import rest_channels
from rest_channels.moved import MOVED
from rest_channels.settings import socket_settings
from rest_channels.sockets.connection import StreamConnection
from rest_channels.sockets.demultiplexer import Demultiplexer


@pytest.fixture(autouse=True)
def fresh_import(monkeypatch):
    """Forget old paths that another test has imported: only an import warns."""
    for name in MOVED:
        if not MOVED[name].startswith(f"{name}."):
            monkeypatch.delitem(sys.modules, f"rest_channels.{name}", raising=False)


@pytest.mark.parametrize("name", [n for n in MOVED if not MOVED[n].startswith(f"{n}.")])
def test_an_old_path_is_the_new_module_and_warns_of_it(name):
    with pytest.warns(DeprecationWarning) as warned:
        module = import_module(f"rest_channels.{name}")
    assert module is import_module(f"rest_channels.{MOVED[name]}")
    assert module.__spec__.name == f"rest_channels.{MOVED[name]}"
    assert f"rest_channels.{name} has moved to rest_channels.{MOVED[name]}." in {
        str(warning.message) for warning in warned
    }


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("live.log", "since"),
        ("live.capture", "is_captured"),
        ("consumers.groups", "GroupConsumers"),
    ],
)
def test_names_of_a_module_that_is_a_package_now_are_found_there(path, name):
    old = import_module(f"rest_channels.{path}")
    with pytest.warns(DeprecationWarning, match=rf"moved to rest_channels\.{MOVED[path]}\."):
        found = getattr(old, name)
    assert found is getattr(import_module(f"rest_channels.{MOVED[path]}"), name)
    with pytest.raises(AttributeError, match="no attribute 'nothing_like_it'"):
        getattr(old, "nothing_like_it")  # noqa: B009


# Imports on pages and in the README of older releases.
@pytest.mark.parametrize(
    "path",
    [
        *["connection.StreamConnection", "demultiplexer.Demultiplexer", "request.MessageRequest"],
        *["threads.workers", "live.querysets.LiveManager", "live.querysets.LiveQuerySet"],
        *["consumers.rooms.RoomConsumers", "consumers.models.CRUDConsumers"],
        *["permissions.ConsumerPermission", "hosting.HostedStream", "daphne.full_send"],
        *["origin.is_trusted", "origin.warn", "outbox.Wire", "hosting.Guest", "reports.begin"],
    ],
)
def test_a_documented_old_name_is_importable(path):
    with pytest.warns(DeprecationWarning, match="has moved to"):
        assert import_string(f"rest_channels.{path}") is not None


def test_no_old_path_is_a_file():
    package = Path(rest_channels.__file__).parent
    assert [name for name in MOVED if (package / f"{name.replace('.', '/')}.py").exists()] == []


def test_settings_of_an_older_release_name_the_same_classes(settings):
    settings.REST_CHANNELS = {
        "CONNECTION_CLASS": "rest_channels.connection.StreamConnection",
        "DEMULTIPLEXER_CLASS": "rest_channels.demultiplexer.Demultiplexer",
    }
    with pytest.warns(DeprecationWarning, match=r"rest_channels\.sockets\."):
        assert socket_settings.CONNECTION_CLASS is StreamConnection
    with pytest.warns(DeprecationWarning, match=r"rest_channels\.sockets\."):
        assert socket_settings.DEMULTIPLEXER_CLASS is Demultiplexer
