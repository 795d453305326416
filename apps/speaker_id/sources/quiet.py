"""Keeps what C libraries print off the screen."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Nothing but Python writes to standard error, unless ``--debug`` is given.

    libmpg123 prints lines there for the damaged frames of an MP3, and libsndfile has no option to stop it.
    """
    try:
        shared = sys.stderr.fileno() == 2
    except (AttributeError, OSError):  # there is none, or it is no file
        shared = False
    if not shared or logging.getLogger("streamdrnn").isEnabledFor(logging.DEBUG):
        yield
        return
    before = sys.stderr, sys.__stderr__
    with open(os.dup(2), "w", encoding=sys.stderr.encoding, errors="backslashreplace", buffering=1) as own:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        sys.stderr = sys.__stderr__ = own  # type: ignore[misc]
        try:
            yield
        finally:
            sys.stderr, sys.__stderr__ = before  # type: ignore[misc]
            os.dup2(own.fileno(), 2)
