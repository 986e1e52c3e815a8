"""
Support for djangochannelsrestframework, if the project has imported it.

A project that hosts none of its consumers and uses none of its permissions does not pay for it:
without the import, no object can be an instance of its classes.
"""

from __future__ import annotations

import sys
from typing import Any


def loaded(name: str) -> Any:
    """Return the module `djangochannelsrestframework.<name>`; None if it was not imported."""
    return sys.modules.get(f"djangochannelsrestframework.{name}")


def is_consumer(value: Any) -> bool:
    """Return whether `value` is a consumer class of djangochannelsrestframework."""
    consumers = loaded("consumers")
    if consumers is None or not isinstance(value, type):
        return False
    return issubclass(value, consumers.AsyncAPIConsumer)
