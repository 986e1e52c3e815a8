"""The console's views: the users who may open it, and what browsers may do with its answers."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import Client, override_settings
from rest_framework.permissions import AllowAny, BasePermission, IsAdminUser, IsAuthenticated
from rest_framework.serializers import ModelSerializer

from rest_channels.console.access import may_open
from rest_channels.console.described import _described, described
from rest_channels.metrics.figures import stats
from rest_channels.routers import DefaultRouter
from tests.models import Room
from tests.support.console_urls import RoomViewSet

pytestmark = [pytest.mark.django_db, pytest.mark.once]

PAGES = ["/sockets/", "/sockets/description/"]


class NeverOnMondays(BasePermission):
    def has_permission(self, request, view):
        return False


class NameSerializer(ModelSerializer):
    class Meta:
        model = Room
        fields = ("name",)


class NamedRoomViewSet(RoomViewSet):
    serializer_class = NameSerializer


def is_bob(request: Any) -> bool:
    return request.user.username == "bob"


def is_broken(request: Any) -> bool:
    return request.user.profile.is_trusted


@pytest.fixture(autouse=True)
def project(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.support.console_urls"
    settings.ASGI_APPLICATION = "tests.support.console_urls.application"
    settings.STATIC_URL = "/static/"
    settings.LOGIN_URL = "sign-in"
    settings.TEMPLATES = [
        {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
    ]


def signed_in(name: str, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(User.objects.create_user(name, is_staff=name == "ann"))
    return client


@pytest.mark.parametrize("page", PAGES)
def test_without_debug_nobody_may_open_it(page):
    assert signed_in("ann").get(page).status_code == 404


@pytest.mark.parametrize("page", PAGES)
def test_with_debug_everybody_may(settings, page):
    settings.DEBUG = True
    assert Client().get(page).status_code == 200


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize(
    "rule", [IsAdminUser, "rest_framework.permissions.IsAdminUser", IsAdminUser & IsAuthenticated]
)
def test_a_permission_says_who_may(settings, rule, debug):
    settings.DEBUG = debug
    settings.REST_CHANNELS = {"CONSOLE_ACCESS": rule}
    assert signed_in("ann").get("/sockets/").status_code == 200
    assert signed_in("bob").get("/sockets/").status_code == 404
    assert Client().get("/sockets/").status_code == 404


def test_a_function_says_who_may(settings):
    settings.REST_CHANNELS = {"CONSOLE_ACCESS": f"{__name__}.is_bob"}
    assert signed_in("bob").get("/sockets/").status_code == 200
    assert signed_in("ann").get("/sockets/").status_code == 404


def test_its_404_looks_like_that_of_a_page_which_does_not_exist(settings):
    settings.REST_CHANNELS = {"CONSOLE_ACCESS": NeverOnMondays}
    refused, absent = Client().get("/sockets/"), Client().get("/nowhere/")
    assert (refused.status_code, refused.content) == (absent.status_code, absent.content)


def test_a_token_in_the_address_is_refused(settings):
    settings.DEBUG = True
    for query in ("token=abc", "authorization=Bearer%20abc", "x"):
        answer = Client().get(f"/sockets/?{query}")
        assert answer.status_code == 400 and "takes no query string" in answer.content.decode()


@pytest.mark.parametrize("page", PAGES)
def test_no_page_may_frame_it_and_no_cache_may_keep_it(settings, page):
    settings.DEBUG = True
    answer = Client().get(page)
    assert answer["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]
    assert "no-store" in answer["Cache-Control"]


def test_its_policy_allows_scripts_of_its_own_files_alone(settings):
    settings.DEBUG = True
    policy = Client().get("/sockets/")["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'; " in policy
    settings.STATIC_URL = "https://files.example.com/static/"
    policy = Client().get("/sockets/")["Content-Security-Policy"]
    assert "script-src 'self' https://files.example.com; " in policy


def test_the_page_has_no_inline_script_or_style(settings):
    settings.DEBUG = True
    html = Client().get("/sockets/").content.decode()
    assert html.count("<script") == html.count('<script type="module" src="/static/') == 1
    assert "<style" not in html and "style=" not in html and "javascript:" not in html


def test_a_name_of_a_user_is_text(settings):
    settings.DEBUG = True
    html = signed_in("<img src=x>").get("/sockets/").content.decode()
    assert "&lt;img src=x&gt;" in html and "<img src=x>" not in html


def test_a_stranger_finds_the_way_to_sign_in(settings):
    settings.DEBUG = True
    assert b'href="/sign-in/?next=%2Fsockets%2F"' in Client().get("/sockets/").content
    settings.LOGIN_URL = "/nowhere/"
    assert b"Sign in</a>" not in Client().get("/sockets/").content


def test_signing_out_ends_the_session_and_needs_the_token_of_the_page(settings):
    settings.DEBUG = True
    client = signed_in("ann", enforce_csrf_checks=True)
    assert client.post("/sockets/sign-out/").status_code == 404
    token = client.get("/sockets/").context["csrf"]
    assert client.post("/sockets/sign-out/", headers={"x-csrftoken": token}).status_code == 204
    assert "_auth_user_id" not in client.session


def test_the_description_names_actions_as_the_sockets_serve_them(settings):
    settings.DEBUG = True
    found = Client().get("/sockets/description/").json()
    (root,) = [socket for socket in found["sockets"] if socket["isRoot"]]
    (rooms,) = root["streams"]
    assert (root["path"], rooms["name"], rooms["key"]) == ("/ws/", "rooms", "id")
    assert rooms["doc"] == "Rooms in which people talk."
    actions = {action["name"]: action for action in rooms["actions"]}
    assert actions["partial_update"]["aliases"] == ["patch"]
    assert actions["partial_update"]["verbs"] == ["patch"]
    assert actions["retrieve"]["http"] == "/api/rooms/{pk}/"
    assert actions["list"]["permissions"] == ["AllowAny"]
    assert {"name", "page"} <= {item["name"] for item in actions["list"]["query"]}
    assert actions["subscribe"]["isLive"] and not actions["list"]["isLive"]


def test_rows_that_show_no_key_have_none(settings):
    settings.DEBUG = True
    router = DefaultRouter()
    router.register("rooms", NamedRoomViewSet)
    (stream,) = described(router.as_asgi())["sockets"][0]["streams"]
    assert stream["key"] is None


def test_the_page_names_the_header_of_its_token(settings):
    settings.DEBUG = True
    settings.CSRF_HEADER_NAME = "HTTP_X_OWN_TOKEN"
    assert 'data-csrf-header="X-OWN-TOKEN"' in Client().get("/sockets/").content.decode()


def test_a_description_that_cannot_be_made_says_why(settings, monkeypatch):
    settings.DEBUG = True

    def fail(application: Any) -> Any:
        raise ImproperlyConfigured("Set DEFAULT_SCHEMA_CLASS.")

    monkeypatch.setattr("rest_channels.console.console_views.described", fail)
    answer = Client().get("/sockets/description/")
    assert (answer.status_code, answer.json()) == (503, {"detail": "Set DEFAULT_SCHEMA_CLASS."})


def test_it_needs_no_other_package(settings, monkeypatch):
    settings.DEBUG = True
    monkeypatch.setitem(sys.modules, "drf_spectacular", None)
    _described.cache_clear()
    description = Client().get("/sockets/description/").json()
    _described.cache_clear()
    assert "name" in description["components"]["Room"]["properties"]


def test_it_is_the_description_of_what_there_is_not_of_what_the_user_may(settings):
    settings.REST_CHANNELS = {"CONSOLE_ACCESS": AllowAny}
    assert json.loads(Client().get("/sockets/description/").content) == (
        signed_in("ann").get("/sockets/description/").json()
    )


def reported() -> set[str | None]:
    return {message.id for message in run_checks(tags=["rest_channels"])}


@pytest.mark.parametrize("wrong", ["nowhere.rule", 7])
def test_a_rule_that_cannot_be_called_is_an_error(wrong):
    with override_settings(REST_CHANNELS={"CONSOLE_ACCESS": wrong}):
        assert "rest_channels.E002" in {
            message.id for message in run_checks(tags=["rest_channels"])
        }


@pytest.mark.parametrize(
    ("rule", "debug", "is_reported"),
    [
        (AllowAny, False, True),
        (AllowAny, True, False),
        (IsAdminUser, False, False),
        (is_broken, False, False),
        (None, False, False),
    ],
)
def test_a_console_that_is_open_to_strangers_is_reported(settings, rule, debug, is_reported):
    settings.DEBUG = debug
    settings.REST_CHANNELS = {"CONSOLE_ACCESS": rule}
    assert ("rest_channels.W019" in reported()) is is_reported


def test_a_project_without_the_console_is_not_asked(settings):
    settings.ROOT_URLCONF = "tests.urls"
    settings.REST_CHANNELS = {"CONSOLE_ACCESS": AllowAny}
    assert "rest_channels.W019" not in reported()


def test_the_rule_is_also_for_others_to_ask(rf, settings):
    settings.DEBUG = True
    assert may_open(rf.get("/"))


def test_only_the_user_expires_the_own_lease(settings):
    settings.DEBUG = True
    client = signed_in("ann", enforce_csrf_checks=True)
    assert client.post("/sockets/lease/").status_code == 404
    token = client.get("/sockets/").context["csrf"]
    assert client.post("/sockets/lease/", headers={"x-csrftoken": token}).status_code == 204
    assert client.get("/sockets/lease/").status_code == 405
    settings.DEBUG = False
    assert client.post("/sockets/lease/", headers={"x-csrftoken": token}).status_code == 404


def test_the_process_is_reported_to_staff_alone(settings):
    assert signed_in("ann").get("/sockets/process/").status_code == 404
    settings.DEBUG = True
    assert signed_in("bob").get("/sockets/process/").status_code == 404
    assert Client().get("/sockets/process/").status_code == 404
    ann = Client()
    ann.force_login(User.objects.get(username="ann"))
    report = ann.get("/sockets/process/").json()
    assert report["stats"].keys() == stats().keys() and report["pid"] == os.getpid()
    assert ann.get("/sockets/process/7/").status_code == 404
