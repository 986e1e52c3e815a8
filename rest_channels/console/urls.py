"""The console's URLs, for `include`."""

from __future__ import annotations

from django.urls import path

from rest_channels.console import console_views as views

app_name = "rest_channels_console"

urlpatterns = [
    path("", views.Page.as_view(), name="page"),
    path("description/", views.Description.as_view(), name="description"),
    path("process/", views.Process.as_view(), name="process"),
    path("process/<str:number>/", views.WhyNotShared.as_view(), name="why"),
    path("lease/", views.ExpireLease.as_view(), name="lease"),
    path("sign-out/", views.SignOut.as_view(), name="sign-out"),
]
