"""Which web pages may connect."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from streamdrnn.errors import InputError

_PORTS = {"http": 80, "https": 443}


def checked(origins: Sequence[str]) -> list[str]:
    """Origins as browsers send them.

    Raises:
        ValueError: one is not the scheme, host and port of a page, and would never match.
    """
    return [_checked(origin) for origin in origins]


def _checked(origin: str) -> str:
    expected = f"allow_origin: expected as in https://example.org or http://localhost:8080, got {origin!r}"
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        raise InputError(expected) from None
    if (
        parts.scheme not in _PORTS
        or not parts.hostname
        or "*" in origin
        or origin.lower() != _shown(parts.scheme, parts.netloc.lower())
    ):
        raise InputError(expected)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return _shown(parts.scheme, host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}")


def _shown(scheme: str, netloc: str) -> str:
    return f"{scheme}://{netloc}"
