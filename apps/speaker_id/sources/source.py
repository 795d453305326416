"""What all sources are: a bounded queue that is filled on one side and read on the other."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Optional, Self

if TYPE_CHECKING:  # a microphone is looked for before torch is loaded, which takes seconds
    from torch import Tensor

from streamdrnn.errors import InputError, ResourceError

MAX_RATE = 384_000
QUEUE_SECONDS = 2.0
BLOCK_SECONDS = 0.1
"""Of sound that is captured as it is heard: as long as a tick. Each block wakes two threads, which takes a processor
longer than to hear 20 ms."""
LEAD_SECONDS = 0.05
"""The first block, so that all others end so much after a tick. Resampling from 44.1 or 48 kHz holds up to 40 ms back:
the last samples of a tick would come with the block after it."""


class SourceError(ResourceError):
    """Sound stopped coming, or never came; the message is one line that says why."""


class Chunk(NamedTuple):
    """Samples as they came.

    Attributes:
        samples: ``(N,)`` float32, one channel.
        lost: how many samples were lost right before them.
        captured: when the last of them was heard, by :func:`time.monotonic`; None if they are not heard live.
    """

    samples: "Tensor"
    lost: int = 0
    captured: Optional[float] = None


class Source:
    """Sound, one channel, in chunks.

    Whatever captures calls :meth:`push`, in any thread; whatever listens iterates over :meth:`chunks`. Between them is
    a queue with an end: a capture that cannot wait drops what does not fit, and the loss is counted and told with the
    next chunk. Used as a context manager, which starts and ends the capture.

    Args:
        name: for people.
        sample_rate: samples per second.
        capacity: the seconds that the queue holds.

    Attributes:
        name, sample_rate: as given.
        dropped: samples lost so far.

    Raises:
        ValueError: the sample rate is out of range.
    """

    def __init__(self, name: str, sample_rate: int, capacity: float = QUEUE_SECONDS) -> None:
        if not 1000 <= sample_rate <= MAX_RATE:
            raise InputError(f"sample rate: expected 1000 to {MAX_RATE} Hz, got {sample_rate}")
        self.name = name
        self.sample_rate = sample_rate
        self.dropped = 0
        self._capacity = round(capacity * sample_rate)
        self._queue: deque[Chunk] = deque()
        self._queued = 0
        self._lost = 0  # since the last chunk that was queued
        self._ended = False
        self._error: Optional[Exception] = None
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def depth(self) -> float:
        """The seconds of sound in the queue."""
        return self._queued / self.sample_rate

    def push(self, samples: "Tensor", captured: Optional[float] = None, lost: int = 0, wait: bool = False) -> bool:
        """Queue samples.

        Args:
            samples: ``(N,)`` float32.
            captured: when the last of them was heard, by :func:`time.monotonic`.
            lost: samples that the capture itself lost right before these.
            wait: until there is room, rather than to drop them.

        Returns:
            whether the source is still open.
        """
        with self._changed:
            while wait and not self._ended and self._queued and self._queued + len(samples) > self._capacity:
                self._changed.wait()
            if self._ended:
                return False
            self._lost += lost
            self.dropped += lost
            # A single chunk always fits into an empty queue: else one longer than the queue would never arrive.
            if self._queued and self._queued + len(samples) > self._capacity:
                self._lost += len(samples)
                self.dropped += len(samples)
            else:
                self._queue.append(Chunk(samples, self._lost, captured))
                self._queued += len(samples)
                self._lost = 0
                self._changed.notify_all()
            return True

    def end(self, error: Optional[Exception] = None) -> None:
        """Nothing more comes; with an error what is queued is still heard, and then the error is raised."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            self._changed.notify_all()

    def chunks(self) -> Iterator[Chunk]:
        """The chunks as they come, until the end.

        Raises:
            SourceError: sound stopped coming; the chunks before that have been given.
        """
        while True:
            with self._changed:
                while not self._queue and not self._ended:
                    self._wait()
                if not self._queue:
                    break
                chunk = self._queue.popleft()
                self._queued -= len(chunk.samples)
                self._changed.notify_all()
            yield chunk
        if self._lost:  # at the very end, with no chunk after it that could tell
            import torch

            yield Chunk(torch.zeros(0), self._lost)
            self._lost = 0
        if self._error is not None:
            raise self._error

    def _wait(self) -> None:
        """Wait for the queue to change."""
        self._changed.wait()


class ThreadedSource(Source):
    """A source that is read in a thread of its own."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, name=f"capture {self.name}", daemon=True).start()
        return self

    def capture(self) -> None:
        """Read all there is and push it; runs in the thread."""
        raise NotImplementedError

    def _run(self) -> None:
        try:
            self.capture()
        except Exception as error:  # it is raised where the chunks are read
            self.end(error)
        else:
            self.end()


def pace(started: float, seconds: float) -> float:
    """Wait until so many seconds after the start; give that moment."""
    due = started + seconds
    time.sleep(max(0.0, due - time.monotonic()))
    return due
