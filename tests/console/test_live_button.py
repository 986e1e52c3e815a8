"""The button "Live" of the browsable API, which opens the console with the same rows."""

from __future__ import annotations

import html
import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client
from rest_framework.permissions import IsAdminUser

from tests.models import Message, Room

pytestmark = [pytest.mark.django_db, pytest.mark.once]


@pytest.fixture(autouse=True)
def project(settings: Any) -> None:
    settings.DEBUG = True
    settings.ROOT_URLCONF = "tests.support.console_urls"
    settings.ASGI_APPLICATION = "tests.support.console_urls.application"
    settings.STATIC_URL = "/static/"
    settings.TEMPLATES = [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
        }
    ]


def link(path: str) -> str | None:
    page = Client().get(path, headers={"accept": "text/html"})
    assert page.status_code == 200
    found = re.search(r'<a class="btn btn-success[^"]*" href="([^"]*)"', page.content.decode())
    return html.unescape(found[1]) if found else None


def linked(path: str) -> dict[str, Any]:
    """Return the fields that the console reads from the link on that page."""
    address = urlsplit(link(path))
    assert (address.path, address.query) == ("/sockets/", "")
    fields = {name: values[0] for name, values in parse_qs(address.fragment).items()}
    return {**fields, "frame": json.loads(fields["frame"])}


def test_a_list_leads_to_a_subscription_with_the_same_query():
    found = linked("/api/rooms/?name=hall&page=1&format=api")
    assert found == {
        **{"stream": "rooms", "socket": "/ws/"},
        "frame": {"action": "subscribe", "query": {"name": "hall"}},
    }


def test_a_row_leads_to_a_subscription_to_it():
    room = Room.objects.create(name="hall")
    frame = linked(f"/api/rooms/{room.pk}/")["frame"]
    assert frame == {"action": "subscribe_instance", "pk": str(room.pk)}


def test_an_action_of_its_own_leads_to_that_action():
    room = Room.objects.create(name="hall")
    frame = linked(f"/api/rooms/{room.pk}/size/")["frame"]
    assert frame == {"action": "size", "pk": str(room.pk)}


def test_values_of_the_query_stay_within_the_link():
    frame = linked("/api/rooms/?name=%22%3E%3Cscript%3Ealert(1)%3C/script%3E%26%23&name=b")["frame"]
    assert frame["query"] == {"name": ['"><script>alert(1)</script>&#', "b"]}
    assert (
        "<script>alert(1)" not in Client().get("/api/rooms/?name=<script>alert(1)").content.decode()
    )


@pytest.mark.parametrize("name", ["token", "access_token", "api_key", "Authorization"])
def test_a_token_of_the_page_is_not_part_of_the_link(name):
    assert "s3cret" not in str(link(f"/api/rooms/?{name}=s3cret"))


def test_a_viewset_without_a_socket_has_no_button():
    Message.objects.create(room=Room.objects.create(name="hall"), text="Hello")
    assert link("/api/messages/") is None


def test_users_who_may_not_open_the_console_have_none(settings):
    settings.REST_CHANNELS = {"CONSOLE_ACCESS": IsAdminUser}
    assert link("/api/rooms/") is None


def test_json_is_the_same_without_it():
    assert Client().get("/api/rooms/").json() == []
