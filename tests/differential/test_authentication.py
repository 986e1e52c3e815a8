"""The user of a request: DRF's authentication classes, and the challenge if there is none."""

from __future__ import annotations

import base64

import pytest
from django.contrib.auth.models import User
from rest_framework import authentication, exceptions, viewsets
from rest_framework.authtoken.models import Token
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response


@pytest.fixture
def ann(db):
    return User.objects.create_user("ann", password="pw")


def asked_by(site, *classes):
    class WhoViewSet(viewsets.ViewSet):
        authentication_classes = classes
        permission_classes = [IsAuthenticated]

        def list(self, request):
            by = type(request.successful_authenticator).__name__
            return Response({"user": request.user.username, "by": by, "auth": str(request.auth)})

    site.register("who", WhoViewSet, "who")


def who(site, **keys):
    return site.same("GET /api/who/", "list", **keys)


def basic(pair):
    return "Basic " + base64.b64encode(pair.encode()).decode()


def test_session(site, ann):
    asked_by(site, authentication.SessionAuthentication)
    answer = who(site)
    assert (answer.status_code, answer.codes) == (403, ["not_authenticated"])
    assert "WWW-Authenticate" not in answer.headers
    site.force_login(ann)
    answer = who(site)
    assert answer.data["user"] == "ann"
    assert len(answer.queries) == 2


def test_a_session_that_is_no_more(site, ann):
    asked_by(site, authentication.SessionAuthentication)
    site.force_login(ann)
    site.client.session.flush()
    assert who(site).status_code == 403


def test_the_session_of_a_user_made_inactive(site, ann):
    asked_by(site, authentication.SessionAuthentication)
    site.force_login(ann)
    User.objects.update(is_active=False)
    assert who(site).status_code == 403


def test_the_session_after_a_new_password(site, ann):
    asked_by(site, authentication.SessionAuthentication)
    site.force_login(ann)
    ann.set_password("other")
    ann.save()
    assert who(site).status_code == 403


def test_basic(site, ann):
    asked_by(site, authentication.BasicAuthentication)
    answer = who(site)
    assert answer.status_code == 401
    assert answer.headers == {"WWW-Authenticate": 'Basic realm="api"'}
    site.credentials(HTTP_AUTHORIZATION=basic("ann:pw"))
    assert who(site).data["user"] == "ann"


@pytest.mark.parametrize("value", [basic("ann:wrong"), "Basic", "Basic a b", "Basic !", "Other x"])
def test_basic_gone_wrong(site, ann, value):
    asked_by(site, authentication.BasicAuthentication)
    site.credentials(HTTP_AUTHORIZATION=value)
    answer = who(site)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")


def test_token(site, ann):
    asked_by(site, authentication.TokenAuthentication)
    assert who(site).headers == {"WWW-Authenticate": "Token"}
    token = Token.objects.create(user=ann)
    site.credentials(HTTP_AUTHORIZATION=f"Token {token.key}")
    answer = who(site)
    assert answer.data == {"user": "ann", "by": "TokenAuthentication", "auth": token.key}
    assert len(answer.queries) == 1


def test_a_token_of_nobody(site):
    asked_by(site, authentication.TokenAuthentication)
    site.credentials(HTTP_AUTHORIZATION="Token 0000")
    answer = who(site)
    assert (answer.errors, answer.codes) == (["Invalid token."], ["authentication_failed"])


def test_a_token_in_the_frame_alone(site, ann):
    asked_by(site, authentication.TokenAuthentication)
    key = Token.objects.create(user=ann).key
    assert who(site, headers={"authorization": f"Token {key}"}).data["user"] == "ann"


def test_the_first_class_names_the_status_and_any_may_know(site, ann):
    asked_by(site, authentication.SessionAuthentication, authentication.TokenAuthentication)
    assert who(site).status_code == 403
    site.credentials(HTTP_AUTHORIZATION=f"Token {Token.objects.create(user=ann).key}")
    assert who(site).data["by"] == "TokenAuthentication"


class QueryAuthentication(authentication.BaseAuthentication):
    """A class of a project's own, that reads what no other does."""

    def authenticate(self, request):
        name = request.query_params.get("as")
        if name is None:
            return None
        try:
            return User.objects.get(username=name), f"as {name}"
        except User.DoesNotExist:
            raise exceptions.AuthenticationFailed("Nobody of that name.", code="nobody") from None

    def authenticate_header(self, request):
        return f'Query realm="{request.get_host()}"'


def test_a_class_of_a_projects_own(site, ann):
    asked_by(site, QueryAuthentication)
    assert who(site).headers == {"WWW-Authenticate": 'Query realm="testserver"'}
    answer = site.same("GET /api/who/?as=ann", "list", query={"as": "ann"})
    assert answer.data == {"user": "ann", "by": "QueryAuthentication", "auth": "as ann"}
    answer = site.same("GET /api/who/?as=bob", "list", query={"as": "bob"})
    assert (answer.status_code, answer.codes) == (401, ["nobody"])


def test_remote_user_is_the_middlewares_business(site, ann):
    asked_by(site, authentication.RemoteUserAuthentication)
    site.headers["remote-user"] = "ann"
    assert who(site).status_code == 403


def test_no_authentication_at_all(site, ann):
    asked_by(site)
    site.force_login(ann)
    assert who(site).status_code == 403
