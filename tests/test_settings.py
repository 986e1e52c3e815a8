"""`REST_CHANNELS`, read as attributes."""

from __future__ import annotations

import pytest
from django.test import override_settings

from rest_channels.settings import DEFAULTS, SocketSettings, socket_settings
from rest_channels.sockets.connection import StreamConnection


@pytest.mark.parametrize("name", DEFAULTS.keys() - {"CONNECTION_CLASS", "DEMULTIPLEXER_CLASS"})
def test_each_setting_has_its_default(name):
    assert getattr(socket_settings, name) == DEFAULTS[name]


def test_each_setting_has_a_type():
    assert SocketSettings.__annotations__.keys() == DEFAULTS.keys()


def test_the_projects_settings_come_first_and_are_forgotten_after():
    with override_settings(REST_CHANNELS={"MAX_IN_FLIGHT": 3}):
        assert socket_settings.MAX_IN_FLIGHT == 3
        assert socket_settings.FRAME_BURST == 200
    assert socket_settings.MAX_IN_FLIGHT == 16


class OwnConnection(StreamConnection):
    pass


@pytest.mark.parametrize("named", [f"{__name__}.OwnConnection", OwnConnection])
def test_a_class_may_be_named_or_given(named):
    assert socket_settings.CONNECTION_CLASS is StreamConnection
    with override_settings(REST_CHANNELS={"CONNECTION_CLASS": named}):
        assert socket_settings.CONNECTION_CLASS.__name__ == "OwnConnection"


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(AttributeError, match=r"no setting 'MAX_FRAMES'; it has .*FRAME_RATE"):
        _ = socket_settings.MAX_FRAMES


def test_other_settings_do_not_matter():
    with override_settings(REST_CHANNELS={"FRAME_RATE": 7}):
        assert socket_settings.FRAME_RATE == 7
        with override_settings(DEBUG=True):
            assert socket_settings.FRAME_RATE == 7


def test_what_was_read_before_a_reload_is_not_kept_after_it():
    """Another thread has read `REST_CHANNELS`, and comes to note what it read too late."""

    class Overridden(SocketSettings):
        @property
        def user_settings(self):
            before = super().user_settings
            self.reload()
            return before

    overridden = Overridden()
    assert overridden.FRAME_RATE == 100
    assert vars(overridden) == {}
