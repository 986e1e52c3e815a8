"""The headers of the console's answers, which say what a browser must not do with them."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.templatetags.static import static


def page_headers(host: str) -> dict[str, str]:
    """Return headers for a page that was requested from `host`."""
    return {
        "Content-Security-Policy": _policy(host),
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
    }


def _policy(host: str) -> str:
    # Static files may have a host of their own.
    address = urlsplit(static("rest_channels/console/console.js"))
    files = f"'self' {address.scheme}://{address.netloc}" if address.netloc else "'self'"
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {files}",
            f"style-src {files}",
            f"img-src {files}",
            # Older browsers do not count websockets of the same host as 'self'.
            f"connect-src 'self' ws://{host} wss://{host}",
            *["base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'"],
        ]
    )
