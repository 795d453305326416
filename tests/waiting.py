"""Waiting for what comes sooner or later: on a loaded machine, later."""

import time
from collections.abc import Callable

PATIENCE = 300.0
"""Seconds after which a test takes it that nothing comes any more; only a test that fails spends them."""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not so after {PATIENCE:g} s"
        time.sleep(0.01)
