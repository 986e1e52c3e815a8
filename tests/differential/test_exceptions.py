"""Exceptions of actions, and the project's answers to them."""

from __future__ import annotations

import pytest
from django.core import exceptions as django_exceptions
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.http import Http404
from rest_framework import exceptions, serializers, status, viewsets
from rest_framework.response import Response
from rest_framework.views import exception_handler

from tests.models import Document, Room


class Teapot(exceptions.APIException):
    status_code = status.HTTP_418_IM_A_TEAPOT
    default_detail = "I am a teapot."
    default_code = "teapot"


class Busy(exceptions.APIException):
    status_code = 503
    default_detail = {"why": "Busy.", "until": ["noon", "later"]}
    default_code = "busy"


def raising(site, exc, **attributes):
    class RaisingViewSet(viewsets.ViewSet):
        def list(self, request):
            raise exc

    for name, value in attributes.items():
        setattr(RaisingViewSet, name, value)
    site.register("things", RaisingViewSet, "thing")


RAISED = {
    "not found": (Http404("secret"), 404),
    "not found, by DRF": (exceptions.NotFound("No such thing.", code="gone"), 404),
    "denied, by Django": (django_exceptions.PermissionDenied("secret"), 403),
    "denied, by DRF": (exceptions.PermissionDenied({"field": "Not yours."}), 403),
    "unauthenticated": (exceptions.NotAuthenticated(), 403),
    "authentication failed": (exceptions.AuthenticationFailed("Who?", "who"), 403),
    "parse error": (exceptions.ParseError("Bad."), 400),
    "throttled": (exceptions.Throttled(wait=3.2), 429),
    "throttled without end": (exceptions.Throttled(), 429),
    "unsupported": (exceptions.UnsupportedMediaType("text/x"), 415),
    "not acceptable": (exceptions.NotAcceptable(), 406),
    "not allowed": (exceptions.MethodNotAllowed("FROB"), 405),
    "plain": (exceptions.APIException(), 500),
    "own": (Teapot(), 418),
    "own, with a code": (Teapot("Short and stout.", "stout"), 418),
    "own, with a dict": (Busy(), 503),
    "a list": (exceptions.APIException(["a", "b"], code="listed"), 500),
    "validation: text": (serializers.ValidationError("Wrong.", code="wrong"), 400),
    "validation: list": (serializers.ValidationError(["Wrong.", "So wrong."]), 400),
    "validation: dict": (serializers.ValidationError({"a": "x", "b": ["y", "z"]}, "ab"), 400),
    "validation: nested": (serializers.ValidationError({"a": {"b": [{}, {"c": ["d"]}]}}), 400),
    "validation: many": (serializers.ValidationError([{}, {"a": ["b"]}, {}]), 400),
    "validation: params": (
        serializers.ValidationError(exceptions.ErrorDetail("Wrong.", code="own")),
        400,
    ),
    "validation: detail": (serializers.ValidationError({"detail": "Wrong."}), 400),
    "validation: list in detail": (serializers.ValidationError({"detail": ["x"], "a": 1}), 400),
    "validation: nothing": (serializers.ValidationError({}), 400),
    "validation: empty list": (serializers.ValidationError([]), 400),
}


@pytest.mark.parametrize("name", RAISED)
def test_raised_by_an_action(site, name):
    exc, status_code = RAISED[name]
    raising(site, exc)
    assert site.same("GET /api/things/", "list").status_code == status_code


CRASHES = {
    "bad request": (django_exceptions.BadRequest("secret"), 400),
    "suspicious": (django_exceptions.SuspiciousOperation("secret"), 400),
    "Django's validation": (django_exceptions.ValidationError("secret"), 500),
    "does not exist": (Room.DoesNotExist("secret"), 500),
    "a bug": (ZeroDivisionError("secret"), 500),
    "integrity": (IntegrityError("secret"), 500),
    "protected": (ProtectedError("secret", set()), 500),
}


@pytest.mark.parametrize("name", CRASHES)
def test_left_to_django(site, name):
    exc, status_code = CRASHES[name]
    raising(site, exc)
    assert site.http("GET /api/things/").status_code == status_code
    answer = site.socket("list")
    assert (answer.status_code, answer.data) == (status_code, None)
    assert "secret" not in str(answer.errors)


@pytest.mark.parametrize("place", ["initial", "get_permissions", "check_throttles", "list"])
def test_wherever_it_is_raised(site, place):
    def fail(*args, **kwargs):
        raise Teapot

    raising(site, None, **{place: fail})
    assert site.same("GET /api/things/", "list").codes == ["teapot"]


def enveloping(exc, context):
    """A project's own handler, that looks at all it is given."""
    response = exception_handler(exc, context)
    if response is None and isinstance(exc, ZeroDivisionError):
        response = Response({"error": "Nothing to divide by."}, status=422)
    elif response is not None:
        response.data = {"status": response.status_code, "error": response.data}
    if response is not None:
        response["X-View"] = type(context["view"]).__name__
        response["X-Asked"] = f"{context['request'].method} {context['request'].path}"
        response["X-Kwargs"] = str(context["kwargs"])
    return response


@pytest.mark.parametrize(
    "exc, status_code, codes",
    [
        (Teapot(), 418, [{"status": None, "error": {"detail": "teapot"}}]),
        (Http404(), 404, [{"status": None, "error": {"detail": "not_found"}}]),
        (
            serializers.ValidationError({"a": "b"}),
            400,
            [{"status": None, "error": {"a": "invalid"}}],
        ),
        (ZeroDivisionError(), 422, None),
    ],
)
def test_a_handler_in_the_settings(site, settings, exc, status_code, codes):
    settings.REST_FRAMEWORK = {"EXCEPTION_HANDLER": enveloping}
    raising(site, exc)
    answer = site.same("GET /api/things/", "list")
    assert (answer.status_code, answer.codes) == (status_code, codes)
    assert answer.headers["X-View"] == "RaisingViewSet"


def test_a_handler_of_the_view(site):
    raising(site, Teapot(), get_exception_handler=lambda self: enveloping)
    assert site.same("GET /api/things/", "list").errors[0]["status"] == 418


def test_handle_exception_overridden(site):
    def handle_exception(self, exc):
        if isinstance(exc, ZeroDivisionError):
            return Response(["an", "ersatz"], status=200, headers={"X-Was": "a bug"})
        return super(viewsets.ViewSet, self).handle_exception(exc)

    raising(site, ZeroDivisionError(), handle_exception=handle_exception)
    answer = site.same("GET /api/things/", "list")
    assert (answer.data, answer.headers) == (["an", "ersatz"], {"X-Was": "a bug"})


@pytest.mark.parametrize(
    "data",
    [
        {"detail": "x"},
        {"detail": "x", "more": 1},
        {"detail": ["x"]},
        ["x", {"y": 1}],
        "x",
        3,
        {},
        [],
    ],
)
def test_errors_returned_not_raised(site, data):
    class RefusingViewSet(viewsets.ViewSet):
        def list(self, request):
            return Response(data, status=409, headers={"X-Why": "because"})

    site.register("things", RefusingViewSet, "thing")
    assert site.same("GET /api/things/", "list").status_code == 409


def test_an_error_without_a_word(site):
    class RefusingViewSet(viewsets.ViewSet):
        def list(self, request):
            return Response(status=404)

    site.register("things", RefusingViewSet, "thing")
    answer = site.same("GET /api/things/", "list")
    assert (answer.data, answer.errors, answer.codes) == (None, [], None)


def test_a_protected_row(site):
    class RoomViewSet(viewsets.ModelViewSet):
        queryset = Room.objects.all()

        class Serializer(serializers.ModelSerializer):
            class Meta:
                model = Room
                fields = ["name"]

        serializer_class = Serializer

        def perform_destroy(self, room):
            try:
                room.delete()
            except ProtectedError as error:
                raise serializers.ValidationError("In use.", code="protected") from error

    site.register("rooms", RoomViewSet)
    lobby = Room.objects.create(name="lobby")
    Document.objects.create(room=lobby, file="a.txt", price=1)
    answer = site.same(f"DELETE /api/rooms/{lobby.pk}/", "destroy", pk=lobby.pk)
    assert (answer.errors, answer.codes) == (["In use."], ["protected"])


def test_a_clash_that_the_database_finds(site):
    class RoomViewSet(viewsets.ViewSet):
        def create(self, request):
            with transaction.atomic():
                Room.objects.create(name=request.data["name"])
            return Response(status=201)

        def handle_exception(self, exc):
            if isinstance(exc, IntegrityError):
                exc = serializers.ValidationError({"name": "Taken."}, code="unique")
            return super().handle_exception(exc)

    site.register("rooms", RoomViewSet, "room")
    Room.objects.create(name="lobby")
    answer = site.same("POST /api/rooms/", "create", data={"name": "lobby"})
    assert answer.codes == [{"name": "unique"}]
