"""Where and when to connect again."""

import itertools
import random
import ssl
import time
from collections.abc import Sequence
from typing import Any, Optional, Union

from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException

from streamdrnn.client.exchange import PASSING, RefusedError
from streamdrnn.client.protocol import PATH, Code
from streamdrnn.errors import InputError

_RANDOM = random.Random()
"""Not the program's, whose seed may be that of all other clients."""
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 1.0
_SHORTEST_HEARTBEAT = 0.5
"""Seconds; servers bound how many pings they take."""
_FOR_GOOD = {1002, 1003, 1007, 1008, 1009}
"""WebSocket's own codes of messages that are no better when they are sent again."""
_OF_ONE_SERVER = {Code.UNAUTHORISED, Code.UNKNOWN_MODEL, Code.UNKNOWN_STREAM, Code.TOO_MANY_STREAMS}
"""Refusals that another server of the list may not make."""


class Reconnection:
    """The servers of a stream in turn, with longer and longer waits, until it is time to give up.

    Time counts while somebody waits for a server: from the last result, or whatever else the server did for the stream.
    Each server has a share of it to answer in, so that another one has its turn before all is over.

    Args:
        urls: of one server or several with the same store, as in ``ws://127.0.0.1:8765``.
        give_up_after: seconds of waiting in vain.
        heartbeat: seconds between pings, and those that a pong may take.

    Raises:
        ValueError: there is no URL, or a time is too short.
    """

    def __init__(self, urls: Union[str, Sequence[str]], give_up_after: float, heartbeat: float) -> None:
        servers = [urls] if isinstance(urls, str) else list(urls)
        if not servers:
            raise InputError("url: expected one or more, got none")
        if not give_up_after > 0:
            raise InputError(f"give_up_after: expected above 0, got {give_up_after}")
        if not heartbeat >= _SHORTEST_HEARTBEAT:
            raise InputError(f"heartbeat: expected {_SHORTEST_HEARTBEAT} s or more, got {heartbeat}")
        self._urls = itertools.cycle([server.rstrip("/") + PATH for server in servers])
        self._url = ""
        self._servers = len(set(servers))
        self._give_up_after = give_up_after
        self._since = time.monotonic()
        self._wait = _FIRST_WAIT
        self._refusals: dict[str, ConnectionError] = {}
        self._given_up: Optional[ConnectionError] = None
        # Results have no size that a client could know before; it chose the server.
        self.options: dict[str, Any] = {
            "compression": None,
            "max_size": None,
            "close_timeout": 1.0,
            "ping_interval": heartbeat,
            "ping_timeout": heartbeat,
        }

    @property
    def answer_seconds(self) -> float:
        """How long the server at hand may take to answer."""
        return self._give_up_after / (self._servers + 1)

    def next_url(self) -> str:
        """The server to try.

        Raises:
            ConnectionError: the stream was given up; what it was sent since its last result is lost.
        """
        self.check()
        self._url = next(self._urls)
        return self._url

    def check(self) -> None:
        """Raise if the stream was given up, as :meth:`next_url`."""
        if self._given_up is not None:
            raise self._given_up

    def begin(self) -> None:
        """Somebody begins to wait."""
        self._since = time.monotonic()

    def excuse(self, seconds: float) -> None:
        """The client itself took its time."""
        self._since += seconds

    def heard(self) -> None:
        """The server did something for the stream."""
        self._since, self._wait = time.monotonic(), _FIRST_WAIT
        self._refusals.clear()

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
        # Not all clients of a server that was lost are to come back at the same moment.
        wait, self._wait = self._wait * _RANDOM.uniform(0.5, 1), min(_LONGEST_WAIT, 2 * self._wait)
        return wait

    def _why_give_up(self, error: Exception) -> Optional[ConnectionError]:
        refusal = _refusal(error)
        if refusal is not None:
            self._refusals[self._url] = refusal
            code = refusal.code if isinstance(refusal, RefusedError) else 0
            of_one_server = code < 1000 or code in _OF_ONE_SERVER  # a certificate, HTTP's codes, or ours
            if not of_one_server or len(self._refusals) == self._servers:
                return refusal
        if time.monotonic() - self._since > self._give_up_after:
            return next(iter(self._refusals.values()), ConnectionError(f"no server answers: {error}"))
        return None


def _refusal(error: Exception) -> Optional[ConnectionError]:
    """The refusal that an error is; None if another connection may do better."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionError(f"the server's certificate is not trusted: {error.verify_message}")
    close = error.rcvd if isinstance(error, ConnectionClosed) else None
    if close is not None and (close.code in _FOR_GOOD or (close.code >= 4000 and close.code not in PASSING)):
        return RefusedError(close.code, close.reason or "the server refused a message")
    if isinstance(error, InvalidStatus) and error.response.status_code < 500:
        return RefusedError(error.response.status_code, "the server refused the connection")
    return None


FAILURES = (OSError, WebSocketException, EOFError)
"""The errors of a connection that fails."""


def tls(url: str, context: Optional[ssl.SSLContext]) -> dict[str, Any]:
    """The option of TLS for a URL; ``context`` None is the system's certificates."""
    return {"ssl": context} if context is not None and url.startswith("wss:") else {}
