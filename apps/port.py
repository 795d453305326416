"""The port that somebody names on the command line."""

from streamdrnn.errors import InputError


def check_port(port: int) -> None:
    """Refuse a number that is no port's.

    Raises:
        ValueError: it is none.
    """
    if not 0 <= port < 1 << 16:
        raise InputError(f"port: expected 0 (any that is free) to 65535, got {port}")
