"""
DRF's browsable API with a button "Live" that opens the console at the same rows.

    REST_FRAMEWORK = {
        "DEFAULT_RENDERER_CLASSES": [
            "rest_framework.renderers.JSONRenderer",
            "rest_channels.console.renderers.LiveBrowsableAPIRenderer",
        ],
    }
"""

from __future__ import annotations

from typing import Any

from rest_framework.renderers import BrowsableAPIRenderer


class LiveButtonMixin:
    """The button, for a `BrowsableAPIRenderer` of the project's own."""

    template = "rest_channels/live_api.html"

    def get_context(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        # DRF imports renderers while it imports its views, which the routers need.
        from rest_channels.console.live_links import live_link

        context: dict[str, Any] = super().get_context(*args, **kwargs)  # type: ignore[misc]
        return {**context, "live_link": live_link(context["view"], context["request"])}


class LiveBrowsableAPIRenderer(LiveButtonMixin, BrowsableAPIRenderer):
    """The browsable API with the button."""
