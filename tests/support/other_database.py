"""A second database, `apart`, for the tests of a module that imports the fixture."""

from __future__ import annotations

import pytest
from django.db import connections

from tests.settings import SQLITE_OPTIONS


@pytest.fixture(scope="module", autouse=True)
def other_database(request, tmp_path_factory):
    """Before a test case asks which databases there are, and after the test's own are made."""
    request.getfixturevalue("django_db_setup")
    own = connections.settings["default"]
    connections.settings["apart"] = {
        **own,
        "ENGINE": "django.db.backends.sqlite3",
        # One file for all modules: threads keep their connections to it.
        "NAME": str(tmp_path_factory.getbasetemp() / "apart.sqlite3"),
        "OPTIONS": SQLITE_OPTIONS,
        "TEST": {**own["TEST"], "MIRROR": None},
    }
    yield
    connections["apart"].close()
    del connections["apart"]
    del connections.settings["apart"]
