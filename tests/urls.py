from django.urls import path

from rest_channels import health

urlpatterns: list = [
    path("live/", health.Live.as_view()),
    path("ready/", health.Ready.as_view()),
    path("ready/few/", health.Ready.as_view(checks=["draining", "database"])),
]
