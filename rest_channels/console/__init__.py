"""
The console: a page in which to try a project's sockets.

    urlpatterns = [path("sockets/", include("rest_channels.console.urls"))]

With `DEBUG` it is open to all; otherwise the setting `CONSOLE_ACCESS` says who may open it.
"""
