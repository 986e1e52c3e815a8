from __future__ import annotations

import os

import hypothesis
import pytest

from tests import services

# A machine may be slow: how long an example takes is no test's business.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

# They make projects of their own, on SQLite: once is enough.
collect_ignore = (
    ["test_demo.py", "test_docs.py", "test_readme.py"]
    if os.environ.get("TEST_DATABASE") == "postgresql"
    else []
)


@pytest.fixture(scope="session")
def require_chromium() -> None:
    """Skips where there is no browser; fails instead with REQUIRE_SERVICES=1."""
    if services.has_chromium():
        return
    reason = "chromium and chromedriver are not installed"
    if services.are_required():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
