"""Sessions and languages: what Django's middleware does around an HTTP request."""

from __future__ import annotations

import pytest
from django.contrib.auth import login, logout
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.utils import translation
from django.utils.translation import gettext
from rest_framework import exceptions, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response


class CartViewSet(viewsets.ViewSet):
    def list(self, request):
        return Response(request.session.get("cart", []))

    def create(self, request):
        request.session.setdefault("cart", []).append(request.data)
        request.session.modified = True
        if request.data == "bomb":
            raise ZeroDivisionError
        if request.data == "grenade":
            raise exceptions.APIException
        if request.data == "lemon":
            raise serializers.ValidationError("Sour.")
        return Response(request.session["cart"], status=201)

    @action(detail=False, methods=["delete"])
    def empty(self, request):
        request.session.flush()
        return Response(status=204)

    @action(detail=False, permission_classes=[IsAuthenticated])
    def mine(self, request):
        return Response(request.user.username)

    @action(detail=False, methods=["post"])
    def sign_out(self, request):
        logout(request)
        return Response(status=204)

    @action(detail=False, methods=["post"])
    def sign_in(self, request):
        login(request, User.objects.get(username=request.data))
        return Response({"user": request.user.username})


@pytest.fixture
def carts(site):
    site.register("carts", CartViewSet, "cart")
    site.force_login(User.objects.create_user("ann"))
    return site


def carts_left(answer):
    return [session.get("cart") for session in answer.rows["Session"]]


def test_what_an_action_writes_is_saved(carts):
    answer = carts.same("POST /api/carts/", "create", data="pear")
    assert carts_left(answer) == [["pear"]]


def test_what_a_refused_action_wrote_is_saved(carts):
    answer = carts.same("POST /api/carts/", "create", data="lemon")
    assert (answer.status_code, carts_left(answer)) == (400, [["lemon"]])


@pytest.mark.parametrize("data", ["bomb", "grenade"])
def test_what_a_crashed_action_wrote_is_not(carts, data):
    assert carts_left(carts.http("POST /api/carts/", data=data)) == [None]
    assert carts_left(carts.socket("create", data=data)) == [None]


def test_an_action_that_only_reads_writes_nothing(carts):
    queries = carts.same("GET /api/carts/", "list").queries
    assert [sql.split()[0] for sql in queries] == ["SELECT", "SELECT"]


def test_what_one_writes_the_other_reads(carts):
    carts.http("POST /api/carts/", data="pear")
    carts.socket("create", data="fig")
    assert carts.same("GET /api/carts/", "list").data == ["pear", "fig"]


def test_saved_with_every_request(carts, settings):
    settings.SESSION_SAVE_EVERY_REQUEST = True
    carts.same("GET /api/carts/", "list")


def test_a_flushed_session_is_gone(carts):
    assert carts.same("DELETE /api/carts/empty/", "empty").rows["Session"] == []


def test_signing_out(carts):
    assert carts.same("GET /api/carts/mine/", "mine").data == "ann"
    assert carts.same("POST /api/carts/sign_out/", "sign_out").rows["Session"] == []


def test_signing_in(site):
    site.register("carts", CartViewSet, "cart")
    ann = User.objects.create_user("ann")
    answer = site.same("POST /api/carts/sign_in/", "sign_in", data="ann")
    assert answer.data == {"user": "ann"}
    assert [session["_auth_user_id"] for session in answer.rows["Session"]] == [str(ann.pk)]


def test_a_session_from_nothing(site):
    site.register("carts", CartViewSet, "cart")
    answer = site.same("POST /api/carts/", "create", data="pear")
    assert carts_left(answer) == [["pear"]]
    assert Session.objects.count() == 0


class WordsViewSet(viewsets.ViewSet):
    class Serializer(serializers.Serializer):
        count = serializers.IntegerField()

    def list(self, request):
        language = [translation.get_language(), getattr(request, "LANGUAGE_CODE", None)]
        return Response({"language": language, "word": gettext("Yes")})

    def create(self, request):
        self.Serializer(data=request.data).is_valid(raise_exception=True)

    @action(detail=True)
    def show(self, request, pk):
        return Response(pk)

    @action(detail=False)
    def in_french(self, request):
        translation.activate("fr")
        raise serializers.ValidationError({"word": gettext("Yes")})


@pytest.fixture
def words(site, settings):
    locale = "django.middleware.locale.LocaleMiddleware"
    settings.MIDDLEWARE = [settings.MIDDLEWARE[0], locale, *settings.MIDDLEWARE[1:]]
    site.register("words", WordsViewSet, "word")
    return site


@pytest.mark.parametrize(
    "accepted", ["de", "fr-CH, fr;q=0.9", "xx, es;q=0.1", "", "*", "nonsense;;"]
)
def test_the_language_asked_for(words, accepted):
    headers = {"accept-language": accepted}
    words.same("GET /api/words/", "list", headers=headers)
    words.same("POST /api/words/", "create", data={}, headers=headers)


def test_errors_in_the_language_asked_for(words):
    headers = {"accept-language": "de"}
    answer = words.same("POST /api/words/", "create", data={}, headers=headers)
    assert "erforderlich" in answer.errors[0]["count"][0]
    assert answer.codes == [{"count": ["required"]}]


def test_refusals_in_the_language_asked_for(words):
    headers = {"accept-language": "de"}
    put = words.same("PUT /api/words/", "list", method="put", headers=headers)
    assert put.errors == ['Methode "PUT" nicht erlaubt.']
    words.same("POST /api/words/in_french/", "in_french", method="post", headers=headers)


def test_a_missing_lookup_in_the_language_asked_for(words):
    answer = words.socket("show", headers={"accept-language": "de"})
    assert "erforderlich" in answer.errors[0]["pk"][0]


def test_the_handshakes_language(words):
    words.headers["accept-language"] = "de"
    assert words.same("GET /api/words/", "list").data["word"] == "Ja"


def test_the_language_of_a_cookie(words):
    words.client.cookies["django_language"] = "es"
    assert words.same("GET /api/words/", "list").data["word"] == "Sí"


def test_a_language_chosen_in_an_action_ends_with_it(words):
    assert words.same("GET /api/words/in_french/", "in_french").errors == [{"word": "Oui"}]
    assert words.same("GET /api/words/", "list").data["word"] == "Yes"


def test_without_the_middleware_nobody_asks(site):
    site.register("words", WordsViewSet, "word")
    answer = site.same("GET /api/words/", "list", headers={"accept-language": "de"})
    assert answer.data == {"language": ["en-us", None], "word": "Yes"}
