"""Random programs on a stage of two processes: many of them, and the shortest that fails."""

from __future__ import annotations

import os
import pprint
import random
from collections import Counter
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from rest_framework.authtoken.models import Token

from rest_channels.bus import publisher
from tests.support.random_programs.clients import Broken
from tests.support.random_programs.generator import Generator
from tests.support.random_programs.note_world import PlainNotes
from tests.support.random_programs.runs import Run
from tests.support.random_programs.shortening import shortened
from tests.support.random_programs.world_kind import IS_POSTGRESQL, USERS
from tests.support.stepped_processes import moving, running

PLAIN = PlainNotes()

PROGRAMS = int(os.environ.get("TEST_PROGRAMS", 200 if IS_POSTGRESQL else 1_000))


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
def stage(layer=None, *, tally=None, capture="signals", kinds=(PLAIN,), moves=None):
    """
    Runs a program on two processes, in a world of one of `kinds`; gives what went wrong, or None.
    `tally` counts. With `moves`, a `Random`, audiences move between tracks.
    """
    with ExitStack() as stack:
        for kind in kinds:
            stack.enter_context(kind.prepared(capture))
        shared = stack.enter_context(running(capture))
        if moves is not None:
            stack.enter_context(moving(moves))
        processes = [shared.start(), shared.start()]
        headers = {name: headers_of(name) for name in USERS}
        ring = nothing_rings if layer is None else partial(pass_on, layer, processes)

        def failure(kind, program):
            if moves is not None:
                moves.seed(repr(program))
            try:
                found = Counter() if tally is None else tally
                Run(kind, shared, processes, headers, ring, found).run(program)
            except Exception as exc:
                return exc
            return None

        yield failure


def nothing_rings():
    return False


def pass_on(layer, processes):
    """Whether what `layer` makes of the doorbells that were rung is heard by some process."""
    publisher.flush()
    arriving = layer.pass_on()
    for process in processes:
        messages = [(c, m) for c, m in arriving if layer.loop_of(c) is process.loop]

        def ring(messages=messages):
            for channel, message in messages:
                layer.deliver(channel, message)
            return bool(messages)

        process.hear(ring)
    return bool(arriving)


def seeds(count):
    rng = random.SystemRandom()
    return [rng.randrange(2**32) for _ in range(count)]


def first_failure(failure, seeds, kinds=(PLAIN,)):
    """The first of `seeds` whose program fails: seed, kind of world, program and how."""
    for seed in seeds:
        rng = random.Random(seed)
        kind = rng.choice(kinds)
        program = Generator(kind, rng).program()
        found = failure(kind, program)
        if found is not None:
            return seed, kind, program, found
    return None


# One program in a hundred notices some of the rules that are left out.
_UNTIL_ONE_FAILS = 2_000


def must_fail(failure, finders=(), kinds=(PLAIN,)):
    """
    Run programs until one notices what was left out of the rules.

    `finders` are seeds of programs that have noticed it before, so that it does not take long.
    """
    found = first_failure(failure, [*finders, *seeds(_UNTIL_ONE_FAILS)], kinds)
    assert found is not None, "no program has noticed"
    seed, *_, exc = found
    print("noticed by", seed)
    assert isinstance(exc, Broken), seed


def check(failure, count, kinds=(PLAIN,)):
    """That none of `count` programs fails; of one that does, the shortest that fails so."""
    given = os.environ.get("TEST_SEED")
    found = first_failure(failure, seeds(count) if given is None else [int(given)], kinds)
    if found is None:
        return
    seed, kind, program, exc = found
    short = shortened(program, lambda p: type(failure(kind, p)) is type(exc), tries=200)
    exc = failure(kind, short) or exc
    raise AssertionError(f"TEST_SEED={seed} {kind}:\n{pprint.pformat(short)}\n{exc}") from exc
