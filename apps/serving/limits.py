"""What a client may ask for, and how it is told that it asked for more."""

import math
from dataclasses import dataclass, fields
from enum import Enum, auto
from typing import Optional

from streamdrnn.client.protocol import Code
from streamdrnn.errors import InputError


class RefusalError(Exception):
    """Ends one connection, with a code and a line that says what was wrong and what would be right."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class Cut(Enum):
    """Why the server cuts off a connection that it does not tell a :class:`Code`."""

    TOO_MANY_WAITING = auto()
    PLACE_NEEDED = auto()
    TOO_MANY_WEBSOCKETS = auto()
    TOO_SLOW = auto()
    BAD_REQUEST = auto()
    FORBIDDEN_ORIGIN = auto()
    TOO_MANY_FRAMES = auto()
    MESSAGE_TOO_LARGE = auto()
    BAD_FRAME = auto()
    NO_PONG = auto()


@dataclass(frozen=True)
class Limits:
    """The limits of a server; all of them are above 0.

    Attributes:
        streams: how many a model may have at a time.
        frame_steps: the network's steps in one message; with a front-end, as many hops of samples.
        rate: steps per second that a stream may send, on average.
        burst_seconds: how much of that it may save up, to send again what was lost; a new stream has a tenth of it.
        window: messages that a client may send beyond the last result that it has.
        unread_bytes: results that are kept of a stream until its client has them. Where a window of the largest
            messages would have more, messages have to be smaller.
        idle_seconds: how long a stream may say nothing.
        open_seconds: how long a connection may take to say what it wants.
    """

    streams: int = 64
    frame_steps: int = 100
    rate: float = 1000.0
    burst_seconds: float = 60.0
    window: int = 32
    unread_bytes: int = 2**20
    idle_seconds: float = 60.0
    open_seconds: float = 10.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 < getattr(self, field.name) < math.inf:
                raise InputError(f"{field.name}: expected above 0, got {getattr(self, field.name)}")
        least = 2 * self.frame_steps / self.burst_seconds  # a client saves up half of the burst
        if self.rate < least:
            raise InputError(
                f"rate: expected {least:g} or more for messages of {self.frame_steps} steps, got {self.rate:g}"
            )

    def first_steps(self) -> float:
        """Steps that a new stream may send at once: less than what one may save up, as opening costs nothing."""
        return max(2.0 * self.frame_steps, self.rate * self.burst_seconds / 10)


class Budget:
    """What may still be spent, by a rate and how much of it may be saved up.

    Args:
        rate: per second.
        most: what can be saved up.
        now: the time in seconds, by a clock that never goes back.
        left: what there is at first; None is the most.
    """

    def __init__(self, rate: float, most: float, now: float, left: Optional[float] = None) -> None:
        self._rate, self._most = rate, most
        self._left, self._since = most if left is None else min(left, most), now

    def left(self, now: float) -> float:
        """What may be spent now."""
        self._left = min(self._most, self._left + (now - self._since) * self._rate)
        self._since = now
        return self._left

    def spend(self, amount: float, now: float) -> Optional[float]:
        """Spend, if there is enough; None, or else the seconds until there will be and nothing is spent."""
        left = self.left(now)
        if amount > left:
            return (amount - left) / self._rate
        self._left -= amount
        return None
