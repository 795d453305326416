"""Clients of a server (`streamdrnn serve`): streams that go on where they were when a connection or a server is lost.

Needs numpy and websockets, and no torch: ``pip install '.[client]'``.
"""

from streamdrnn.client.aio import AsyncStream, connect_async
from streamdrnn.client.blocking import Stream, connect
from streamdrnn.client.exchange import RefusedError

__all__ = ["AsyncStream", "RefusedError", "Stream", "connect", "connect_async"]
