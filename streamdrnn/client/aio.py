"""The client for asyncio."""

import asyncio
import ssl as tls_module
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Optional, Self, Union

import numpy as np
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket

from streamdrnn.client.exchange import Exchange
from streamdrnn.client.reconnection import FAILURES, OPTIONS, Reconnection, tls


async def connect_async(
    url: Union[str, Sequence[str]],
    model: str,
    format: str = "float32",
    token: Optional[str] = None,
    give_up_after: float = 30.0,
    ssl: Optional[tls_module.SSLContext] = None,
) -> "AsyncStream":
    """Open a stream; arguments and errors as for :func:`streamdrnn.client.connect`."""
    stream = AsyncStream(Exchange(model, format, token), Reconnection(url, give_up_after), ssl)
    await stream.open()
    return stream


class AsyncStream:
    """A stream on a server; made by :func:`connect_async`. Leaving its ``async with`` block closes it.

    As :class:`streamdrnn.client.Stream`, which says more. Calls from several tasks take turns.
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
        async with self._turn:
            first, last = self._exchange.add(inputs)
            await self._until(lambda: self._exchange.answered(last))
            return self._exchange.take(first, last)

    async def reset(self) -> None:
        """Begin anew, as a stream that has heard nothing."""
        async with self._turn:
            seq = self._exchange.add_reset()
            await self._until(lambda: self._exchange.answered(seq))
            self._exchange.take(seq, seq)

    async def snapshot(self) -> None:
        """Let the server save the stream as it is now."""
        async with self._turn:
            self._exchange.request("snapshot")
            await self._until(lambda: self._exchange.all_saved)

    async def close(self) -> None:
        """End the stream; the server forgets it."""
        async with self._turn:
            self._exchange.request("close")
            await self._until(lambda: self._exchange.finished)
            await self._disconnect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if kind is None and not self._exchange.finished:
            await self.close()
        await self._disconnect()

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            try:
                await self._exchange_one()
            except FAILURES as error:
                await self._disconnect()
                await asyncio.sleep(self._reconnection.lost(error))

    async def _exchange_one(self) -> None:
        if self._socket is None:
            url = self._reconnection.next_url()
            self._socket = await connect_websocket(url, **OPTIONS, **tls(url, self._ssl))
            await self._socket.send(self._exchange.greeting())
            self._exchange.receive(await self._socket.recv())
            self._reconnection.heard()
            return
        message = self._exchange.next_message()
        if isinstance(message, bytes | str):
            await self._socket.send(message)
            return
        try:
            async with asyncio.timeout(message):
                answer = await self._socket.recv()
        except TimeoutError:
            return  # it is time to send
        self._exchange.receive(answer)

    async def _disconnect(self) -> None:
        if self._socket is not None:
            await self._socket.close()
            self._socket = None
