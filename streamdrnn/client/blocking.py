"""The client for programs without asyncio."""

import ssl as tls_module
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Optional, Self, Union

import numpy as np
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_websocket

from streamdrnn.client.exchange import Exchange
from streamdrnn.client.reconnection import FAILURES, OPTIONS, Reconnection, tls


def connect(
    url: Union[str, Sequence[str]],
    model: str,
    format: str = "float32",
    token: Optional[str] = None,
    give_up_after: float = 30.0,
    ssl: Optional[tls_module.SSLContext] = None,
) -> "Stream":
    """Open a stream.

    Args:
        url: the server's, as in ``ws://127.0.0.1:8765``; or several with the same store, tried in turn.
        model: the name by which the server has it.
        format: ``"float32"`` samples from -1 to 1, ``"pcm16"`` samples, or, for a model that takes no samples,
            ``"features"``.
        token: if the server wants one.
        give_up_after: seconds without any connection.
        ssl: for ``wss`` with certificates that are not the system's.

    Raises:
        RefusedError: the server refuses.
        ConnectionError: no server answers.
        ValueError: the format is none of these.
    """
    return Stream(Exchange(model, format, token), Reconnection(url, give_up_after), ssl)


class Stream:
    """A stream on a server; made by :func:`connect`. Leaving its ``with`` block closes it.

    When the connection or the server is lost it continues on the next one, and what was not saved there is sent again.
    Every method may raise ``RefusedError``, or ``ConnectionError`` when no server answers.
    """

    def __init__(self, exchange: Exchange, reconnection: Reconnection, ssl: Optional[tls_module.SSLContext]) -> None:
        self._exchange, self._reconnection, self._ssl = exchange, reconnection, ssl
        self._socket: Optional[ClientConnection] = None
        self._held = ExitStack()
        self._until(lambda: bool(exchange.opened))

    @property
    def id(self) -> str:
        """The stream's id: a secret, as whoever knows it can take the stream over."""
        return self._exchange.stream

    @property
    def model(self) -> dict[str, Any]:
        """The server's description of the model: sizes, sample rate, and its limits."""
        return dict(self._exchange.opened)

    def push(self, inputs: np.ndarray) -> np.ndarray:
        """Send inputs, and wait for what they lead to.

        Args:
            inputs: ``(N,)`` samples or ``(T, I)`` features, any N or T.

        Returns:
            ``(steps, E)`` float32, an output for each step of the network that was completed.
        """
        first, last = self._exchange.add(inputs)
        self._until(lambda: self._exchange.answered(last))
        return self._exchange.take(first, last)

    def reset(self) -> None:
        """Begin anew, as a stream that has heard nothing."""
        seq = self._exchange.add_reset()
        self._until(lambda: self._exchange.answered(seq))
        self._exchange.take(seq, seq)

    def snapshot(self) -> None:
        """Let the server save the stream as it is now."""
        self._exchange.request("snapshot")
        self._until(lambda: self._exchange.all_saved)

    def close(self) -> None:
        """End the stream; the server forgets it."""
        self._exchange.request("close")
        self._until(lambda: self._exchange.finished)
        self._disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if kind is None and not self._exchange.finished:
            self.close()
        self._disconnect()

    def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            try:
                self._exchange_one()
            except FAILURES as error:
                self._disconnect()
                time.sleep(self._reconnection.lost(error))

    def _exchange_one(self) -> None:
        if self._socket is None:
            url = self._reconnection.next_url()
            self._socket = self._held.enter_context(connect_websocket(url, **OPTIONS, **tls(url, self._ssl)))
            self._socket.send(self._exchange.greeting())
            self._exchange.receive(self._socket.recv())
            self._reconnection.heard()
            return
        message = self._exchange.next_message()
        if isinstance(message, bytes | str):
            self._socket.send(message)
            return
        try:
            answer = self._socket.recv(timeout=message)
        except TimeoutError:
            return  # it is time to send
        self._exchange.receive(answer)

    def _disconnect(self) -> None:
        self._socket = None
        self._held.close()
