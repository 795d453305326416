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
from streamdrnn.client.reconnection import FAILURES, Reconnection, tls


def connect(
    url: Union[str, Sequence[str]],
    model: str,
    format: str = "float32",
    token: Optional[str] = None,
    give_up_after: float = 30.0,
    ssl: Optional[tls_module.SSLContext] = None,
    heartbeat: float = 20.0,
) -> "Stream":
    """Open a stream.

    Args:
        url: the server's, as in ``ws://127.0.0.1:8765``; or several with the same store, tried in turn.
        model: the name by which the server has it.
        format: ``"float32"`` samples from -1 to 1, ``"pcm16"`` samples, or, for a model that takes no samples,
            ``"features"``.
        token: if the server wants one.
        give_up_after: seconds that a call waits without a result, or anything else that a server does for it. Each
            server gets a part of them, so that another one has its turn.
        ssl: for ``wss`` with certificates that are not the system's.
        heartbeat: seconds between two pings, and those that a pong may take before the connection counts as lost.

    Raises:
        RefusedError: the server refuses; of several, each of them.
        ConnectionError: no server answers, or its certificate is not trusted.
        ValueError: the format is none of these, or a time is not above 0.
    """
    return Stream(Exchange(model, format, token), Reconnection(url, give_up_after, heartbeat), ssl)


class Stream:
    """A stream on a server; made by :func:`connect`. Leaving its ``with`` block closes it.

    When the connection or the server is lost it continues on the next one, and what was not saved there is sent again.
    Every method may raise ``RefusedError``, or ``ConnectionError`` when no server answers.

    A call that is interrupted, as by Ctrl-C, leaves a stream that goes on: the inputs of a push that had begun are part
    of it, and the next push gives its own outputs.
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
        self._reconnection.check()
        first, last = self._exchange.add(inputs)
        return self._results(first, last)

    def reset(self) -> None:
        """Begin anew, as a stream that has heard nothing."""
        self._reconnection.check()
        seq = self._exchange.add_reset()
        self._results(seq, seq)

    def snapshot(self) -> None:
        """Let the server save the stream as it is now."""
        self._exchange.request("snapshot")
        last = self._exchange.last
        try:
            self._until(lambda: self._exchange.saved(last))
        finally:
            self._exchange.withdraw()

    def close(self) -> None:
        """End the stream; the server forgets it."""
        if not self._exchange.finished:
            self._exchange.request("close")
            try:
                self._until(lambda: self._exchange.finished)
            finally:
                self._exchange.withdraw()
        self._disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if kind is None:
            self.close()
        self._disconnect()

    def _results(self, first: int, last: int) -> np.ndarray:
        try:
            self._until(lambda: self._exchange.answered(last))
            return self._exchange.take(first, last)
        except BaseException:
            self._exchange.abandon(first, last)
            raise

    def _until(self, done: Callable[[], bool]) -> None:
        self._reconnection.begin()
        while not done():
            try:
                self._exchange_one()
            except FAILURES as error:
                self._disconnect()
                time.sleep(self._reconnection.lost(error))
            except BaseException:
                self._disconnect()  # what was sent and heard nobody knows; the next connection says
                raise

    def _exchange_one(self) -> None:
        patience = self._reconnection.answer_seconds
        if self._socket is None:
            url = self._reconnection.next_url()
            options = {**self._reconnection.options, **tls(url, self._ssl)}
            self._socket = self._held.enter_context(connect_websocket(url, open_timeout=patience, **options))
            self._socket.send(self._exchange.greeting())
            self._receive(self._socket.recv(timeout=patience))
            return
        message = self._exchange.next_message()
        if isinstance(message, bytes | str):
            self._socket.send(message)
            return
        began, pause = time.monotonic(), patience if message is None else message
        try:
            answer = self._socket.recv(timeout=pause)
        except TimeoutError:
            if message is None:
                raise TimeoutError(f"no answer within {pause:g} s") from None
            self._reconnection.excuse(time.monotonic() - began)
            return  # it is time to send
        self._receive(answer)

    def _receive(self, answer: Union[bytes, str]) -> None:
        before = self._exchange.progress
        self._exchange.receive(answer)
        if self._exchange.progress > before:
            self._reconnection.heard()

    def _disconnect(self) -> None:
        self._socket = None
        self._held.close()
