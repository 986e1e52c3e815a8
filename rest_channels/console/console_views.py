"""
The console's page, and the JSON that it fetches.

None of these views does what the user could not do otherwise: frames go over the user's own socket,
under the user's own permissions.
"""

from __future__ import annotations

from typing import Any

from channels.routing import get_default_application
from django.conf import settings
from django.contrib.auth import logout
from django.core.exceptions import ImproperlyConfigured
from django.http import Http404, HttpResponse, HttpResponseBadRequest, HttpResponseBase
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.utils.cache import add_never_cache_headers
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import ensure_csrf_cookie
from rest_framework import exceptions
from rest_framework.authentication import SessionAuthentication
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from rest_channels.console.access import ConsoleAccess, IsStaff
from rest_channels.console.described import described
from rest_channels.console.page_headers import page_headers
from rest_channels.console.process_report import process_report, why_not_shared
from rest_channels.console.sign_in import sign_in_url
from rest_channels.sockets.revalidation import leases

# The reason for refusing a query string: servers and proxies log it.
NO_QUERY = (
    "The console takes no query string. Paste a token into its field 'Token'; a frame that a link "
    "fills in comes behind '#'."
)


class ConsoleView(APIView):
    """A view of the console: 404 for every user who may not open it."""

    # Browsers open pages with their session. It also has the check of CSRF tokens.
    authentication_classes = [SessionAuthentication]
    permission_classes = [ConsoleAccess]
    throttle_classes: list[type] = []
    versioning_class = None
    renderer_classes = [JSONRenderer]
    schema = None

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        # A browser asks for HTML.
        return super().perform_content_negotiation(request, force=True)

    def handle_exception(self, exc: Exception) -> Response:
        refusals = (exceptions.PermissionDenied, exceptions.AuthenticationFailed)
        if isinstance(exc, (*refusals, exceptions.NotAuthenticated, Http404)):
            # Django's own page, as for a URL that does not exist.
            raise Http404 from exc
        return super().handle_exception(exc)

    def finalize_response(
        self, request: Request, response: HttpResponseBase, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        response = super().finalize_response(request, response, *args, **kwargs)
        for name, value in page_headers(request.get_host()).items():
            response[name] = value
        add_never_cache_headers(response)
        return response


# The cookie of the token that `SignOut` asks for, also without Django's middleware.
@method_decorator(ensure_csrf_cookie, "dispatch")
class Page(ConsoleView):
    """The console's one page."""

    def get(self, request: Request) -> HttpResponse:
        if request.META.get("QUERY_STRING"):
            return HttpResponseBadRequest(NO_QUERY, content_type="text/plain; charset=utf-8")
        context = {
            "user": request.user,
            "name": str(request.user) if request.user.is_authenticated else "",
            "is_staff": getattr(request.user, "is_staff", False),
            "sign_in": sign_in_url(request),
            "csrf": get_token(request._request),
            "csrf_header": settings.CSRF_HEADER_NAME.removeprefix("HTTP_").replace("_", "-"),
        }
        return render(request._request, "rest_channels/console.html", context)


class Description(ConsoleView):
    """The project's sockets, streams and actions."""

    def get(self, request: Request) -> Response:
        try:
            return Response(described(get_default_application()))
        except ImproperlyConfigured as exc:
            # The page shows it to a person who can do something about it.
            return Response({"detail": str(exc)}, status=503)


class SignOut(ConsoleView):
    """Ends the session."""

    def post(self, request: Request) -> Response:
        logout(request._request)
        return Response(status=204)


class StaffView(ConsoleView):
    """A view for members of staff who may open the console."""

    permission_classes = [IsStaff]


class Process(StaffView):
    """A report of the process that answers."""

    def get(self, request: Request) -> Response:
        return Response(process_report())


class WhyNotShared(StaffView):
    """The code that read the request for one audience of this process."""

    def get(self, request: Request, number: str) -> Response:
        report = why_not_shared(number)
        if report is None:
            raise Http404
        return Response(report)


class ExpireLease(ConsoleView):
    """Lets the server read the user's own sessions again now, as it does when a lease is over."""

    def post(self, request: Request) -> Response:
        key = getattr(getattr(request, "session", None), "session_key", None)
        if key is not None:
            leases.expire(lambda credentials: credentials.session_key == key)
        return Response(status=204)
