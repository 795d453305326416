"""The load generator, in a process of its own: so many streams that send sound as a microphone does.

Every stream sends a message of sound when it would have been heard. A message's latency is from that moment, not from
when it was sent in fact, to its result: a server that holds up the sender does not look better for it.
"""

import argparse
import asyncio
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from streamdrnn.apps.bench.serving.sounds import Sounds
from streamdrnn.apps.bench.timing import no_garbage_collection
from streamdrnn.client import protocol
from streamdrnn.client.protocol import PATH, Input, pack_input, unpack_result

_TOGETHER = 50
"""Connections that are opened at a time."""
_ANSWER_SECONDS = 5.0
"""How long the last results may take."""
_REST_SECONDS = 0.001
"""The least time between two looks at what is to be sent; what is sent later for it counts as the server's time."""


class Load(NamedTuple):
    """What is sent.

    Attributes:
        url: the server's.
        model: the name by which it has the model.
        streams: how many.
        warm_up: messages of each stream that are not counted, at first.
        exact: whether results are to be those offline to the last bit.
    """

    url: str
    model: str
    streams: int
    warm_up: int
    exact: bool


class Stream(WSListener):
    """One stream, its socket, and what it heard.

    Args:
        messages: the sound, ``(messages, samples)`` int16.

    Attributes:
        opened: the server's answer to the first message.
        done: when all results are here; an error if they cannot come any more.
    """

    def __init__(self, messages: np.ndarray) -> None:
        super().__init__()
        self._payloads = [message.astype("<i2").tobytes() for message in messages]
        self._sent = 0
        self.results: list[bytes] = []
        self.came: list[float] = []
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[str] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.BINARY:
            self.came.append(time.perf_counter())
            self.results.append(frame.get_payload_as_bytes())
            if len(self.results) == len(self._payloads):
                self.done.set_result(None)
        elif frame.msg_type == WSMsgType.TEXT and not self.opened.done():
            self.opened.set_result(frame.get_payload_as_utf8_text())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        for future in (self.opened, self.done):
            if not future.done():
                future.set_exception(ConnectionError("the server has closed a connection"))

    def open(self, model: str) -> None:
        """Ask for a stream."""
        asked = {"type": "open", "version": protocol.VERSION, "model": model, "format": "pcm16"}
        self._transport.send(WSMsgType.TEXT, json.dumps(asked).encode())

    def send(self) -> None:
        """Send the next message."""
        payload = self._payloads[self._sent]
        self._sent += 1
        self._transport.send(WSMsgType.BINARY, pack_input(Input(self._sent, len(self.results), payload)))

    def close(self) -> None:
        """Leave."""
        self._transport.disconnect()

    def outputs(self, size: int) -> np.ndarray:
        """All outputs ``(steps, E)``, in the order in which they came.

        Raises:
            ValueError: a result was lost, or came twice.
        """
        results = [unpack_result(message) for message in self.results]
        if [result.seq for result in results] != list(range(1, len(self._payloads) + 1)):
            raise ValueError("results are lost, or in another order than their messages")
        outputs: np.ndarray = np.frombuffer(b"".join(result.payload for result in results), "<f4").reshape(-1, size)
        return outputs


async def run(load: Load, sounds: Sounds) -> Optional[dict[str, float]]:
    """Send, and measure.

    Returns:
        latencies in seconds as percentiles ``p50``, ``p95``, ``p99``; ``seconds``, how long it took, and ``cores``,
        what this process took of them. None if the server did not keep up.

    Raises:
        ValueError: a result is not that of the whole sound offline.
    """
    streams = await _open(load, sounds)
    try:
        with no_garbage_collection():  # nothing is to hold up the sending
            computed, begin = time.process_time(), time.perf_counter() + 0.05
            async with asyncio.timeout(sounds.seconds + _ANSWER_SECONDS):
                await _send(streams, sounds, begin)
                await asyncio.gather(*(stream.done for stream in streams))
    except (ConnectionError, TimeoutError):
        return None
    finally:
        for stream in streams:
            stream.close()
    seconds = time.perf_counter() - begin
    cores = (time.process_time() - computed) / seconds
    for i, stream in enumerate(streams):
        sounds.check(i, stream.outputs(sounds.output_size), load.exact)
    late = np.array([stream.came for stream in streams]) - begin - _moments(sounds, len(streams))
    percentiles = {f"p{p}": float(np.percentile(late[:, load.warm_up :], p)) for p in (50, 95, 99)}
    return {**percentiles, "seconds": seconds, "cores": cores}


def _moments(sounds: Sounds, streams: int) -> np.ndarray:
    """When each message would have been heard, ``(streams, messages)``: evenly, one stream after the other."""
    after: np.ndarray = np.arange(1, sounds.messages + 1) + np.arange(streams)[:, None] / streams
    return sounds.seconds_per_message * after


async def _send(streams: list[Stream], sounds: Sounds, begin: float) -> None:
    moments = begin + _moments(sounds, len(streams))
    for k in range(sounds.messages):
        for i, stream in enumerate(streams):
            wait = moments[i, k] - time.perf_counter()
            if wait > 0 or i % 16 == 0:  # also when this is late, what came must be read
                await asyncio.sleep(max(_REST_SECONDS, wait) if wait > 0 else 0.0)
            stream.send()


async def _open(load: Load, sounds: Sounds) -> list[Stream]:
    async def one(i: int) -> Stream:
        stream = Stream(sounds.of(i))
        await ws_connect(lambda: stream, load.url + PATH)
        stream.open(load.model)
        opened = json.loads(await stream.opened)
        if opened["type"] != "opened":
            raise ConnectionError(opened["message"])
        return stream

    streams: list[Stream] = []
    for first in range(0, load.streams, _TOGETHER):
        streams += await asyncio.gather(*map(one, range(first, min(load.streams, first + _TOGETHER))))
    return streams


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("sounds", type=Path)
    parser.add_argument("streams", type=int)
    parser.add_argument("warm_up", type=int)
    parser.add_argument("--exact", action="store_true")
    told = parser.parse_args()
    load = Load(told.url, told.model, told.streams, told.warm_up, told.exact)
    # The loop that the server has too; there is none for Windows.
    runner = asyncio.Runner(loop_factory=None if sys.platform == "win32" else import_module("uvloop").new_event_loop)
    with runner:
        print(json.dumps(runner.run(run(load, Sounds.read(told.sounds)))))


if __name__ == "__main__":
    main()
