"""Throttles: the same requests pass, the same have to wait, and for as long."""

from __future__ import annotations

import pytest
from django.core.cache import cache
from rest_framework import throttling, viewsets
from rest_framework.decorators import action
from rest_framework.response import Response


class Still:
    """A clock that does not go, so that the time to wait is known."""

    def timer(self):
        return 1000.0


class AnonThrottle(Still, throttling.AnonRateThrottle):
    rate = "2/min"


class UserThrottle(Still, throttling.UserRateThrottle):
    rate = "3/hour"


class ScopedThrottle(Still, throttling.ScopedRateThrottle):
    THROTTLE_RATES = {"uploads": "1/day", "reads": "2/day"}


def throttled(site, *classes, **attributes):
    class PingViewSet(viewsets.ViewSet):
        throttle_classes = classes
        throttle_scope = None

        def list(self, request):
            return Response("pong")

        def create(self, request):
            return Response("pang", status=201)

        @action(detail=False, throttle_scope="reads")
        def reads(self, request):
            return Response("read")

    for name, value in attributes.items():
        setattr(PingViewSet, name, value)
    site.register("pings", PingViewSet, "ping")


def both(times, http, socket):
    """The answers to as many requests of each kind; each counts from nothing."""
    over_http = [http() for _ in range(times)]
    cache.clear()
    over_socket = [socket() for _ in range(times)]
    assert over_socket == over_http
    return over_http


def list_both(site, times):
    return both(times, lambda: site.http("GET /api/pings/"), lambda: site.socket("list"))


def test_strangers(site):
    throttled(site, AnonThrottle)
    answers = list_both(site, 4)
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert answers[2].headers == {"Retry-After": "60"}
    assert answers[2].codes == ["throttled"]


def test_users_count_apart_from_strangers(site, django_user_model):
    throttled(site, AnonThrottle, UserThrottle)
    site.force_authenticate(django_user_model.objects.create_user("ann"))
    answers = list_both(site, 4)
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[3].headers == {"Retry-After": "3600"}


def test_a_scope_of_the_view_and_of_an_action(site):
    throttled(site, ScopedThrottle, throttle_scope="uploads")
    assert [answer.status_code for answer in list_both(site, 2)] == [200, 429]
    cache.clear()
    reads = both(3, lambda: site.http("GET /api/pings/reads/"), lambda: site.socket("reads"))
    assert [answer.status_code for answer in reads] == [200, 200, 429]


@pytest.mark.parametrize("socket_first", [True, False])
def test_http_and_sockets_count_together(site, socket_first):
    throttled(site, AnonThrottle)
    asked = [lambda: site.http("GET /api/pings/"), lambda: site.socket("list")]
    first, second = reversed(asked) if socket_first else asked
    assert [ask().status_code for ask in (first, second, first, second)] == [200, 200, 429, 429]


def test_behind_a_proxy_each_client_counts_alone(site):
    throttled(site, AnonThrottle)
    for address in ["10.0.0.1", "10.0.0.2"]:
        site.headers["x-forwarded-for"] = address
        assert [answer.status_code for answer in list_both(site, 3)] == [200, 200, 429]


def test_what_is_refused_counts(site):
    throttled(site, AnonThrottle, http_method_names=["get"])
    refused = both(
        3,
        lambda: site.http("POST /api/pings/", data={}),
        lambda: site.socket("create", data={}),
    )
    assert [answer.status_code for answer in refused] == [405, 405, 429]


def test_a_throttle_of_a_projects_own(site):
    class NoWrites(throttling.BaseThrottle):
        def allow_request(self, request, view):
            return request.method != "POST"

        def wait(self):
            return 2.5

    throttled(site, NoWrites)
    assert site.same("GET /api/pings/", "list").status_code == 200
    answer = site.same("POST /api/pings/", "create", data={})
    assert (answer.status_code, answer.headers) == (429, {"Retry-After": "3"})
