"""Which web pages may connect."""

from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from streamdrnn.errors import InputError

_PORTS = {"http": 80, "https": 443}


def checked_origins(origins: Sequence[str]) -> list[str]:
    """Origins as browsers send them.

    Raises:
        ValueError: one is not the scheme, host and port of a page, and would never match.
    """
    return [_checked(origin) for origin in origins]


def _checked(origin: str) -> str:
    scheme, port, host = "", None, ""
    with suppress(ValueError):
        parts = urlsplit(origin)
        scheme, port, host = parts.scheme, parts.port, parts.hostname or ""
    page = f"{scheme}://[{host}]" if ":" in host else f"{scheme}://{host}"
    given = page if port is None else f"{page}:{port}"
    if scheme not in _PORTS or not host or "*" in host or not host.isascii() or origin.lower() != given:
        raise InputError(f"allow_origin: expected as in https://example.org or http://localhost:8080, got {origin!r}")
    return page if port == _PORTS[scheme] else given
