"""Where connections come in: counted from the beginning, and through TLS if the server has a certificate."""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable

from streamdrnn.apps.serving.failures import failure_of
from streamdrnn.apps.serving.limits import Budget, Cut

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
"""How long a connection may take for the handshake of TLS."""
HANDSHAKES_PER_SECOND = 100.0
"""On average; after a time without any, as many at once as there are places. Each takes a millisecond or two."""
_PAUSE_SECONDS = 1.0
"""How long no connection is accepted when the system has no file or no memory for one more."""


class Door:
    """Accepts the connections of listening sockets.

    asyncio's own server lets any number of them wait for the handshake of TLS, each with an open file. Here they are as
    many as there are places; for one more the oldest is dropped.

    Args:
        protocol: makes what serves one connection.
        tls: with the server's certificate; None for connections without TLS.
        places: handshakes at a time.
        refused: counts the connections that are cut off, by why.
    """

    def __init__(
        self,
        protocol: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None,
        places: int,
        refused: Callable[[Cut], object],
    ) -> None:
        self._protocol, self._tls, self._places, self._refused = protocol, tls, places, refused
        self._turns = Budget(HANDSHAKES_PER_SECOND, places, time.monotonic())
        self._accepting = list[asyncio.Task[None]]()
        self._entering = dict[asyncio.Task[None], None]()  # the oldest first

    def open(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._accepting.append(asyncio.create_task(self._accept(listener)))

    @property
    def failure(self) -> BaseException | None:
        """The error that ended the accepting of connections, if there is one: a bug."""
        return failure_of(self._accepting)

    async def close(self) -> None:
        """Accept no more; the listening sockets stay open."""
        tasks = [*self._accepting, *self._entering]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self._tls is not None and (wait := self._turns.spend(1, time.monotonic())) is not None:
                await asyncio.sleep(wait)  # who comes meanwhile waits in the system's queue
            try:
                connection, _ = await loop.sock_accept(listener)
            except ConnectionError:
                continue  # it has left already
            except OSError as error:
                logger.error("no connection can be accepted: %s", error)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            if len(self._entering) >= self._places:
                oldest = next(iter(self._entering))
                del self._entering[oldest]
                oldest.cancel()
                self._refused(Cut.PLACE_NEEDED)
            task = loop.create_task(self._enter(connection))
            self._entering[task] = None
            task.add_done_callback(lambda task: self._entering.pop(task, None))

    async def _enter(self, connection: socket.socket) -> None:
        loop, seconds = asyncio.get_running_loop(), HANDSHAKE_SECONDS if self._tls else None
        try:
            await loop.connect_accepted_socket(self._protocol, connection, ssl=self._tls, ssl_handshake_timeout=seconds)
        except ssl.SSLError:
            self._refused(Cut.BAD_REQUEST)
        except ConnectionAbortedError:  # after so many seconds
            self._refused(Cut.TOO_SLOW)
        except OSError:
            pass  # it has left
