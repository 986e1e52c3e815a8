"""
Random programs: who writes, subscribes, leaves, comes back, while passes run on two processes.

Whatever happens, afterwards every client holds what `list` or `retrieve` would show it, the
chain of its positions has no gap, and never was anybody shown what they could not see at any
moment between the beginning of the step and the arrival.
"""

from __future__ import annotations

import os
import pprint
import random
from contextlib import contextmanager
from importlib import import_module

import pytest
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from rest_framework.authtoken.models import Token

from tests.live.processes import running
from tests.live.programs import USERS, Run, generate, shortened

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

IS_POSTGRESQL = os.environ.get("TEST_DATABASE") == "postgresql"
PROGRAMS = int(os.environ.get("TEST_PROGRAMS", 300 if IS_POSTGRESQL else 1_000))


def headers_of(name):
    """Two ways to be `name`: a token, on the first process, and a session, on the second."""
    user = get_user_model().objects.create(username=name)
    token = Token.objects.create(user=user)
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return [
        {"authorization": f"Token {token.key}"},
        {"cookie": f"{settings.SESSION_COOKIE_NAME}={session.session_key}"},
    ]


@contextmanager
def stage():
    """Runs a program on two processes; gives what went wrong, or None."""
    with running() as shared:
        processes = [shared.start(), shared.start()]
        headers = {name: headers_of(name) for name in USERS}

        def failure(program):
            try:
                Run(shared, processes, headers).run(program)
            except Exception as exc:
                return exc
            return None

        yield failure


def first_failure(failure, seeds):
    """The first of `seeds` whose program fails, the program and how."""
    for seed in seeds:
        program = generate(random.Random(seed))
        found = failure(program)
        if found is not None:
            return seed, program, found
    return None


def test_what_clients_hold_and_are_shown():
    rng = random.SystemRandom()
    seeds = [rng.randrange(2**32) for _ in range(PROGRAMS)]
    if "TEST_SEED" in os.environ:
        seeds = [int(os.environ["TEST_SEED"])]
    with stage() as failure:
        found = first_failure(failure, seeds)
        if found is None:
            return
        seed, program, exc = found
        short = shortened(program, lambda p: type(failure(p)) is type(exc), tries=200)
        exc = failure(short) or exc
        raise AssertionError(f"TEST_SEED={seed}:\n{pprint.pformat(short)}\n{exc}") from exc
