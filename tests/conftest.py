from __future__ import annotations

import pytest

from tests import services


@pytest.fixture(scope="session")
def require_chromium() -> None:
    """Skips where there is no browser; fails instead with REQUIRE_SERVICES=1."""
    if services.has_chromium():
        return
    reason = "chromium and chromedriver are not installed"
    if services.are_required():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
