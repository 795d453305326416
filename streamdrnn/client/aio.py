"""The client for asyncio."""

import asyncio
import ssl as tls_module
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Optional, Self, Union

import numpy as np
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket

from streamdrnn.client.exchange import Exchange
from streamdrnn.client.reconnection import FAILURES, Reconnection, tls


async def connect_async(
    url: Union[str, Sequence[str]],
    model: str,
    format: str = "float32",
    token: Optional[str] = None,
    give_up_after: float = 30.0,
    ssl: Optional[tls_module.SSLContext] = None,
    heartbeat: float = 20.0,
) -> "AsyncStream":
    """Open a stream; arguments and errors as for :func:`streamdrnn.client.connect`."""
    stream = AsyncStream(Exchange(model, format, token), Reconnection(url, give_up_after, heartbeat), ssl)
    await stream.open()
    return stream


class AsyncStream:
    """A stream on a server; made by :func:`connect_async`. Leaving its ``async with`` block closes it.

    As :class:`streamdrnn.client.Stream`, which says more. Calls from several tasks take turns.

    A call that is cancelled leaves a stream that goes on: inputs of a push that had begun are part of it, and the next
    push gives its own outputs.
    """

    def __init__(self, exchange: Exchange, reconnection: Reconnection, ssl: Optional[tls_module.SSLContext]) -> None:
        self._exchange, self._reconnection, self._ssl = exchange, reconnection, ssl
        self._socket: Optional[ClientConnection] = None
        self._turn = asyncio.Lock()

    @property
    def id(self) -> str:
        """The stream's id: a secret, as whoever knows it can take the stream over."""
        return self._exchange.stream

    @property
    def model(self) -> dict[str, Any]:
        """The server's description of the model: sizes, sample rate, and its limits."""
        return dict(self._exchange.opened)

    async def open(self) -> None:
        """Connect for the first time."""
        async with self._turn:
            await self._until(lambda: bool(self._exchange.opened))

    async def push(self, inputs: np.ndarray) -> np.ndarray:
        """Send inputs ``(N,)`` or ``(T, I)``, and wait for the outputs ``(steps, E)`` float32 that they lead to."""
        self._reconnection.check()
        first, last = self._exchange.add(inputs)
        return await self._results(first, last)

    async def reset(self) -> None:
        """Begin anew, as a stream that has heard nothing."""
        self._reconnection.check()
        seq = self._exchange.add_reset()
        await self._results(seq, seq)

    async def snapshot(self) -> None:
        """Let the server save the stream as it is now."""
        async with self._turn:
            self._exchange.request("snapshot")
            last = self._exchange.last
            try:
                await self._until(lambda: self._exchange.saved(last))
            finally:
                self._exchange.withdraw()

    async def close(self) -> None:
        """End the stream; the server forgets it."""
        async with self._turn:
            if not self._exchange.finished:
                self._exchange.request("close")
                try:
                    await self._until(lambda: self._exchange.finished)
                finally:
                    self._exchange.withdraw()
            await self._disconnect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if kind is None:
            await self.close()
        await self._disconnect()

    async def _results(self, first: int, last: int) -> np.ndarray:
        try:
            async with self._turn:
                await self._until(lambda: self._exchange.answered(last))
                return self._exchange.take(first, last)
        except BaseException:
            self._exchange.abandon(first, last)
            raise

    async def _until(self, done: Callable[[], bool]) -> None:
        self._reconnection.begin()
        while not done():
            try:
                await self._exchange_one()
            except FAILURES as error:
                await self._disconnect()
                await asyncio.sleep(self._reconnection.lost(error))

    async def _exchange_one(self) -> None:
        if self._socket is None:
            self._socket = await self._connect()
            return
        message = self._exchange.next_message()
        if isinstance(message, bytes | str):
            try:
                await self._socket.send(message)
            except BaseException:
                self._drop()  # whether it was sent nobody knows; the next connection says
                raise
            return
        began, pause = time.monotonic(), self._reconnection.answer_seconds if message is None else message
        try:
            async with asyncio.timeout(pause):
                answer = await self._socket.recv()
        except TimeoutError:
            if message is None:
                raise TimeoutError(f"no answer within {pause:g} s") from None
            self._reconnection.excuse(time.monotonic() - began)
            return  # it is time to send
        self._receive(answer)

    async def _connect(self) -> ClientConnection:
        """A connection that has been greeted: whoever is cancelled before leaves none."""
        url = self._reconnection.next_url()
        seconds = self._reconnection.answer_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._greeted(url)
        except TimeoutError:
            raise TimeoutError(f"no connection within {seconds:g} s") from None

    async def _greeted(self, url: str) -> ClientConnection:
        socket = await connect_websocket(url, open_timeout=None, **self._reconnection.options, **tls(url, self._ssl))
        try:
            await socket.send(self._exchange.greeting())
            self._receive(await socket.recv())
        except BaseException:
            socket.transport.abort()
            raise
        return socket

    def _receive(self, answer: Union[bytes, str]) -> None:
        before = self._exchange.progress
        self._exchange.receive(answer)
        if self._exchange.progress > before:
            self._reconnection.heard()

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.transport.abort()
            self._socket = None

    async def _disconnect(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()
