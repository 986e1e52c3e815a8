"""Find out whether clients of different users would get the same answer, before it is made."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Any

from rest_channels.live.exact_values import alike
from rest_channels.live.visibility.answer_proofs import unproven_answer
from rest_channels.live.visibility.side_effects import is_view_used, ways_of_django
from rest_channels.sockets.request import Handshake

logger = logging.getLogger("rest_channels")


def entry_of(view: Any, handler: Any, handshake: Handshake) -> Hashable | None:
    """
    Return a key that is equal for clients of one place for whom `handler` makes the same answer.

    Returns None if it may depend on the user: its code is neither proven nor declared, or the
    checks before it have left something on `view` for it.
    """
    if is_view_used(view) or unproven_answer(view, handler) is not None:
        return None
    request = view.request
    variables = tuple((variable, alike(value)) for variable, value in handshake.variables.items())
    renderer = type(request.accepted_renderer), request.accepted_media_type
    return ways_of_django(), *renderer, request.version, variables
