"""A frame as the request that Django and DRF see."""

from __future__ import annotations

import copy
import io
import json

import pytest
from channels.routing import URLRouter
from django.core.handlers.asgi import ASGIRequest
from django.http.request import HttpHeaders
from django.test import RequestFactory, override_settings
from django.utils import timezone, translation
from rest_framework import parsers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from rest_channels.authentication import Credentials
from rest_channels.protocol import Frame
from rest_channels.routers import SimpleRouter
from rest_channels.sockets.request import Call, Handshake, HandshakeRequest, MessageRequest
from rest_channels.test import SocketClient
from tests.support.talk import OpenViewSet

pytestmark = pytest.mark.django_db


def asked(**keys):
    """Return the result of `read(request)` for a frame with `keys`, sent over a socket."""
    read, path = keys.pop("read"), keys.pop("path", "/")
    headers, parser_classes = keys.pop("handshake", {}), keys.pop("parsers", None)

    class View(OpenViewSet):
        @action(detail=False, methods=["post", "get"])
        def look(self, request):
            return Response(read(request))

    if parser_classes is not None:
        View.parser_classes = parser_classes
    application = URLRouter(View.as_routes("", "look"))
    with SocketClient(application, path, headers=headers) as socket:
        return socket.request("look", **keys).data


def message_request(frame=None, **scope) -> MessageRequest:
    scope = {"type": "websocket", "path": "/", "headers": [], "server": ("testserver", 80), **scope}
    handshake = Handshake(scope, Credentials(scope), {})
    call = Call(lambda request: None, "post", "/rooms/", {})
    return MessageRequest(handshake, frame or Frame("look"), call)


# Where it goes


def test_method_and_path_are_those_of_the_action():
    seen = asked(read=lambda r: [r.method, r.path, r.get_full_path(), r._request.path_info])
    assert seen == ["POST", "/look/", "/look/", "/look/"]


def test_meta_is_what_django_makes_of_a_request_by_http():
    over_http = RequestFactory().post("/rooms/").META
    meta = message_request(client=("127.0.0.1", 0), headers=[(b"host", b"testserver")]).META
    for name in ("REQUEST_METHOD", "QUERY_STRING", "SCRIPT_NAME", "PATH_INFO", "REMOTE_ADDR"):
        assert meta[name] == over_http[name]
    assert (meta["SERVER_NAME"], meta["SERVER_PORT"]) == ("testserver", "80")
    assert meta["CONTENT_TYPE"] == "application/json"


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [("ws", "http"), ("wss", "https"), ("https", "https"), ("http", "http"), (None, "http")],
)
def test_the_scheme_is_that_of_http(scheme, expected):
    request = message_request(scheme=scheme, headers=[(b"host", b"testserver")])
    assert (request.scheme, request.is_secure()) == (expected, expected == "https")
    assert request.build_absolute_uri("/x/") == f"{expected}://testserver/x/"


def test_a_scope_without_a_scheme_is_http():
    assert message_request().scheme == "http"


@override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"))
def test_behind_a_proxy_its_header_says_whether_it_is_secure():
    assert message_request(headers=[(b"x-forwarded-proto", b"https")]).is_secure()
    assert not message_request(scheme="wss", headers=[(b"x-forwarded-proto", b"http")]).is_secure()


def test_the_host_is_the_handshakes():
    uri = asked(handshake={"host": "localhost:8000"}, read=lambda r: r.build_absolute_uri("/x/"))
    assert uri == "http://localhost:8000/x/"


def test_a_host_that_is_not_allowed_is_400_and_the_socket_goes_on():
    class View(OpenViewSet):
        def list(self, request):
            return Response(request.get_host())

        def create(self, request):
            return Response("well")

    application = URLRouter(View.as_routes("", "look"))
    with SocketClient(application, headers={"host": "rebound.example"}) as socket:
        assert socket.list().status_code == 400
        assert socket.create().data == "well"


def test_only_a_scope_made_by_hand_has_no_host():
    assert message_request(server=None).get_host() == "testserver"
    request = message_request(server=None, headers=[(b"host", b"localhost")])
    assert request.get_host() == "localhost"


def test_resolver_match_is_the_routers_own_where_django_has_none():
    match = asked(read=lambda r: [r.resolver_match.url_name, r.resolver_match.route])
    assert match == ["look-look", "^look/$"]


def test_resolver_match_is_none_where_nothing_matches():
    request = message_request()
    assert request.resolver_match is None
    request.resolver_match = match = object()
    assert request.resolver_match is match


# Headers and cookies


def test_cookies_and_headers_are_the_handshakes():
    handshake = {"cookie": "theme=dark; size=2", "user-agent": "Tests", "x-request-id": "7"}
    seen = asked(
        handshake=handshake,
        read=lambda r: [r.COOKIES, r.headers["User-Agent"], r.META["HTTP_X_REQUEST_ID"]],
    )
    assert seen == [{"theme": "dark", "size": "2"}, "Tests", "7"]


@pytest.mark.parametrize(
    "name",
    ["connection", "upgrade", "content-length", "sec-websocket-key", "sec-websocket-version"],
)
def test_what_describes_the_upgrade_is_left_out(name):
    assert asked(handshake={name: "1"}, read=lambda r: r.headers.get(name)) is None


def test_the_content_type_is_the_frames_not_the_handshakes():
    seen = asked(handshake={"content-type": "text/xml"}, read=lambda r: r.content_type)
    assert seen == "application/json"


def test_a_header_that_comes_twice_is_joined_as_in_http():
    headers = [(b"x-forwarded-for", b"10.0.0.1"), (b"x-forwarded-for", b"10.0.0.2")]
    assert message_request(headers=headers).headers["X-Forwarded-For"] == "10.0.0.1,10.0.0.2"


def test_a_frames_headers_win_over_the_handshakes():
    handshake = {"accept-language": "en", "authorization": "Token handshake"}
    seen = asked(
        handshake=handshake,
        headers={"Accept-Language": "de", "AUTHORIZATION": "Token frame"},
        read=lambda r: [r.headers["Accept-Language"], r.headers["Authorization"]],
    )
    assert seen == ["de", "Token frame"]


@pytest.mark.parametrize("name", ["cookie", "host", "x-forwarded-proto", "origin", "remote-user"])
def test_a_frame_cannot_set_other_headers(name):
    seen = asked(headers={name: "evil"}, read=lambda r: r.headers.get(name))
    assert seen == ("testserver" if name == "host" else None)


def test_without_an_accept_header_it_is_json_before_all():
    assert asked(read=lambda r: r.headers["Accept"]) == "application/json, */*"
    handshake = {"accept": "text/x, */*"}
    assert asked(handshake=handshake, read=lambda r: r.headers["Accept"]) == "text/x, */*"


def test_a_header_in_latin_1_arrives_as_it_was():
    seen = asked(headers={"authorization": "Token \xe9"}, read=lambda r: r.headers["Authorization"])
    assert seen == "Token \xe9"


# Query


def test_the_query_is_merged_over_the_handshakes():
    seen = asked(
        path="/?page=1&room=2&room=3",
        query={"page": 9, "tag": ["a", "b"], "none": None, "is": True},
        read=lambda r: dict(r.query_params.lists()),
    )
    assert seen == {
        "page": ["9"],
        "room": ["2", "3"],
        "tag": ["a", "b"],
        "none": [""],
        "is": ["true"],
    }


def test_an_empty_list_removes_the_handshakes_query_key():
    seen = asked(path="/?page=1&room=2", query={"page": []}, read=lambda r: r.query_params)
    assert seen == {"room": "2"}


@pytest.mark.parametrize("value", ["a&b=c", "ä€😀", "x+y z", "%41", "#", "\x00", ""])
def test_a_query_value_arrives_as_it_was(value):
    assert asked(query={value: value}, read=lambda r: r.query_params) == {value: value}


def test_the_full_path_has_the_query():
    assert asked(path="/?a=1", query={"b": 2}, read=lambda r: r.get_full_path()) == "/look/?a=1&b=2"


# Body


@pytest.mark.parametrize("data", [{"a": [1]}, [1, 2], "text", 7, 0, False, None, "", {}, []])
def test_data_is_what_was_sent(data):
    assert asked(data=data, read=lambda r: [r.data]) == [data]


def test_without_data_there_is_none_as_with_an_empty_body():
    assert asked(read=lambda r: [r.data, r.body.decode()]) == [{}, ""]


def test_the_body_is_the_data_as_json():
    seen = asked(data={"name": "ä"}, read=lambda r: json.loads(r.body))
    assert seen == {"name": "ä"}


def test_a_form_and_files_there_are_none():
    assert asked(data={"a": 1}, read=lambda r: [r.POST, list(r.FILES)]) == [{}, []]


class UpperCaseParser(parsers.JSONParser):
    def parse(self, stream, media_type=None, parser_context=None):
        data = super().parse(stream, media_type, parser_context)
        return {name.upper(): value for name, value in data.items()}


def test_a_parser_of_the_projects_own_reads_the_body():
    assert asked(data={"a": "ä"}, parsers=[UpperCaseParser], read=lambda r: r.data) == {"A": "ä"}


def test_a_viewset_that_takes_no_json_is_415():
    class View(OpenViewSet):
        parser_classes = [parsers.FormParser]

        def create(self, request):
            return Response(request.data)

    with SocketClient(URLRouter(View.as_routes("", "x"))) as socket:
        assert socket.create(data={"a": 1}).status_code == 415
        assert socket.create().data == {}


class Prepared(ViewSet):
    """An unmodified viewset that has a say in the request that DRF makes."""

    authentication_classes = []
    permission_classes = []

    def initialize_request(self, request, *args, **kwargs):
        prepared = super().initialize_request(request, *args, **kwargs)
        prepared.tenant = "acme"
        return prepared

    def create(self, request):
        return Response(
            [request.tenant, request.data, request.parser_context["request"] is request]
        )


class OwnRequest(Request):
    pass


class OfAnotherClass(Prepared):
    def initialize_request(self, request, *args, **kwargs):
        drfs = super().initialize_request(request, *args, **kwargs)
        return OwnRequest(request, parsers=drfs.parsers, negotiator=drfs.negotiator)

    def create(self, request):
        return Response([type(request).__name__, request.data])


@pytest.mark.parametrize(
    ("viewset", "seen"),
    [(Prepared, ["acme", {"a": 1}, True]), (OfAnotherClass, ["OwnRequest", {"a": 1}])],
)
def test_a_viewset_may_prepare_the_request_or_make_its_own(viewset, seen):
    router = SimpleRouter()
    router.register("prepared", viewset, "prepared")
    with SocketClient(router.as_asgi(), "/prepared/") as socket:
        assert socket.create(data={"a": 1}).data == seen


# Language and time zone

I18N = {
    "USE_I18N": True,
    "LANGUAGES": [("en", "English"), ("de", "German"), ("fr", "French")],
    "MIDDLEWARE": ["django.middleware.locale.LocaleMiddleware"],
}


@override_settings(**I18N)
def test_the_language_is_what_locale_middleware_would_find():
    def read(request):
        return [translation.get_language(), request.LANGUAGE_CODE]

    assert asked(handshake={"accept-language": "fr"}, read=read) == ["fr", "fr"]
    assert asked(headers={"accept-language": "de"}, read=read) == ["de", "de"]
    assert asked(handshake={"cookie": "django_language=de"}, read=read) == ["de", "de"]


@override_settings(**I18N)
def test_errors_speak_the_frames_language():
    class View(OpenViewSet):
        def list(self, request):
            raise NotImplementedError

    with SocketClient(URLRouter(View.as_routes("", "x"))) as socket:
        reply = socket.request("nothing", headers={"accept-language": "de"})
    assert reply.errors == ['Methode "nothing" nicht erlaubt.']


def test_without_locale_middleware_the_language_is_the_settings():
    seen = asked(headers={"accept-language": "de"}, read=lambda r: translation.get_language())
    assert seen == "en-us"


def test_what_one_frame_activates_the_next_does_not_see():
    class View(OpenViewSet):
        def list(self, request):
            return Response([translation.get_language(), timezone.get_current_timezone_name()])

        def create(self, request):
            translation.activate("de")
            timezone.activate("Asia/Tokyo")
            return self.list(request)

    with SocketClient(URLRouter(View.as_routes("", "x"))) as socket:
        before = socket.list().data
        assert socket.create().data == ["de", "Asia/Tokyo"]
        assert socket.list().data == before


# The handshake


def test_the_handshake_is_a_get_request():
    scope = {"type": "websocket", "path": "/ws/", "query_string": b"a=1", "headers": []}
    request = HandshakeRequest({**scope, "scheme": "wss", "server": ("testserver", 443)})
    assert (request.method, request.get_full_path()) == ("GET", "/ws/?a=1")
    assert request.build_absolute_uri() == "https://testserver/ws/?a=1"


def test_script_names_of_a_mounted_site_are_in_links():
    request = message_request(root_path="/site")
    assert request.META["SCRIPT_NAME"] == "/site"


# As Django makes it


@pytest.mark.parametrize(
    "scope",
    [
        {},
        {"root_path": "/site", "query_string": b"a=1&a=2", "client": ("10.0.0.1", 5)},
        {"root_path": "/rooms/", "scheme": "wss"},
        {"server": None},
        {"headers": [(b"host", b"h"), (b"x_y", b"1"), (b"cookie", b"a=b"), (b"cookie", b"c=d")]},
        {"headers": [(b"content-type", b"text/plain"), (b"accept", b"\xe9"), (b"upgrade", b"w")]},
    ],
)
@pytest.mark.parametrize("query", [{}, {"a": ["é", "3"]}])
@pytest.mark.parametrize("headers", [{}, {"accept": "text/plain"}])
def test_it_is_what_django_makes_of_its_scope(scope, query, headers):
    request = message_request(Frame("look", query=query, headers=headers), **scope)
    by_django = ASGIRequest(request.scope, io.BytesIO())
    for name in vars(by_django).keys() - {"_stream", "resolver_match"}:
        assert getattr(request, name) == getattr(by_django, name), name
    assert request.headers == by_django.headers
    assert (request.GET, request.COOKIES) == (by_django.GET, by_django.COOKIES)
    assert request.read() == b""


def two_requests_of_a_socket():
    scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"h")]}
    handshake = Handshake(scope, Credentials(scope), {})
    call = Call(lambda request: None, "get", "/rooms/", {})
    return (MessageRequest(handshake, Frame("look"), call) for _ in range(2))


def test_what_one_frame_changes_of_its_request_is_no_others():
    changed, other = two_requests_of_a_socket()
    before = dict(changed.META), copy.deepcopy(changed.scope["headers"]), dict(changed.headers)
    changed.META["HTTP_HOST"] = "changed"
    changed.scope["headers"].append((b"x-more", b"1"))
    changed.scope["user"] = "changed"
    changed.content_params["charset"] = "changed"
    assert (other.META, other.scope["headers"], dict(other.headers)) == before
    assert "user" not in other.scope
    assert other.content_params == {}


def test_headers_are_those_of_meta_when_they_are_first_asked_for():
    changed, other = two_requests_of_a_socket()
    changed.META["HTTP_X_MORE"] = "1"
    del changed.META["HTTP_ACCEPT"]
    assert changed.headers == HttpHeaders(changed.META)
    assert changed.headers["X-More"] == "1"
    assert "Accept" not in changed.headers
    assert "X-More" not in other.headers


def test_a_session_is_made_when_it_is_asked_for():
    one, other = two_requests_of_a_socket()
    assert not one.has_session
    one.session["seen"] = True
    assert one.has_session
    assert "seen" not in other.session
