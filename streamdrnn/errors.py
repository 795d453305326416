"""Errors that a user can put right. The command line prints them in one line, and any other as a bug of ours."""

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """A user's option, file, recording, model or data set is refused; the message is one line that says why."""


class ResourceError(OSError):
    """A file, a device or a server that the user named cannot be used; the message is one line that says why."""


@contextmanager
def refusing_input() -> Iterator[None]:
    """Around checks of packages below this one, which know no users: their ValueError is a user's error here."""
    try:
        yield
    except ValueError as error:
        raise InputError(str(error)) from None


def installing(extra: str) -> str:
    """How to install an extra. No index has the package yet, and what has its name there would be somebody else's."""
    return f"pip install '.[{extra}]' in streamdrnn's folder"
