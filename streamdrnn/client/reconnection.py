"""Where and when to connect again."""

import itertools
import ssl
import time
from collections.abc import Sequence
from typing import Any, Optional, Union

from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException

from streamdrnn.client.exchange import PASSING, RefusedError
from streamdrnn.client.protocol import PATH
from streamdrnn.errors import InputError

_FIRST_WAIT, _LONGEST_WAIT = 0.05, 1.0
_FOR_GOOD = {1002, 1003, 1007, 1009}
"""WebSocket's own codes of messages that are no better when they are sent again."""


class Reconnection:
    """The servers of a stream in turn, with longer and longer waits, until it is time to give up.

    Args:
        urls: of one server or several with the same store, as in ``ws://127.0.0.1:8765``.
        give_up_after: seconds without any connection.
    """

    def __init__(self, urls: Union[str, Sequence[str]], give_up_after: float) -> None:
        servers = [urls] if isinstance(urls, str) else list(urls)
        if not servers:
            raise InputError("url: expected one or more, got none")
        self._urls = itertools.cycle([server.rstrip("/") + PATH for server in servers])
        self._give_up_after = give_up_after
        self._lost_since: Optional[float] = None
        self._wait = _FIRST_WAIT
        self._given_up: Optional[ConnectionError] = None

    def next_url(self) -> str:
        """The server to try.

        Raises:
            ConnectionError: the stream was given up; what it was sent since its last result is lost.
        """
        if self._given_up is not None:
            raise self._given_up
        return next(self._urls)

    def heard(self) -> None:
        """The server answers."""
        self._lost_since, self._wait = None, _FIRST_WAIT

    def lost(self, error: Exception) -> float:
        """A connection failed or ended; the seconds to wait before the next.

        Raises:
            RefusedError: the next would fail as well.
            ConnectionError: it is time to give up.
            ValueError: there is no such URL.
        """
        if isinstance(error, InvalidURI):
            raise InputError(f"url: {error}") from None
        self._given_up = self._given_up or self._why_give_up(error)
        if self._given_up is not None:
            raise self._given_up from (None if error is self._given_up else error)
        wait, self._wait = self._wait, min(_LONGEST_WAIT, 2 * self._wait)
        return wait

    def _why_give_up(self, error: Exception) -> Optional[ConnectionError]:
        if isinstance(error, RefusedError):
            return error
        close = error.rcvd if isinstance(error, ConnectionClosed) else None
        if close is not None and (close.code in _FOR_GOOD or (close.code >= 4000 and close.code not in PASSING)):
            return RefusedError(close.code, close.reason or "the server refused a message")
        if isinstance(error, InvalidStatus) and error.response.status_code < 500:
            return RefusedError(error.response.status_code, "the server refused the connection")
        now = time.monotonic()
        self._lost_since = now if self._lost_since is None else self._lost_since
        if now - self._lost_since > self._give_up_after:
            return ConnectionError(f"no server answers: {error}")
        return None


FAILURES = (OSError, WebSocketException, EOFError)
"""The errors of a connection that fails."""

OPTIONS: dict[str, Any] = {"compression": None, "max_size": None, "close_timeout": 1.0}
"""How both clients connect. Results have no size that a client could know before; it chose the server."""


def tls(url: str, context: Optional[ssl.SSLContext]) -> dict[str, Any]:
    """The option of TLS for a URL; ``context`` None is the system's certificates."""
    return {"ssl": context} if context is not None and url.startswith("wss:") else {}
