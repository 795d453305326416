"""What a client may ask for, and how it is told that it asked for more."""

from dataclasses import dataclass, fields
from typing import Optional

from streamdrnn.client.protocol import Code
from streamdrnn.errors import InputError


class RefusalError(Exception):
    """Ends one connection, with a code and a line that says what was wrong and what would be right."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Limits:
    """The limits of a server; all of them are above 0.

    Attributes:
        streams: how many a model may have at a time.
        frame_steps: the network's steps in one message; with a front-end, as many hops of samples.
        rate: steps per second that a stream may send, on average.
        burst_seconds: how much of that it may send at once, as a client does that sends again what was lost.
        window: messages that a client may send beyond the last result that it has.
        idle_seconds: how long a stream may say nothing.
        open_seconds: how long a connection may take to say what it wants.
    """

    streams: int = 64
    frame_steps: int = 100
    rate: float = 1000.0
    burst_seconds: float = 60.0
    window: int = 32
    idle_seconds: float = 60.0
    open_seconds: float = 10.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise InputError(f"{field.name}: expected above 0, got {getattr(self, field.name)}")


class Budget:
    """What may still be spent, by a rate and how much of it may be saved up.

    Args:
        rate: per second.
        most: what can be saved up, and is at first.
        now: the time in seconds, by a clock that never goes back.
    """

    def __init__(self, rate: float, most: float, now: float) -> None:
        self._rate, self._most = rate, most
        self._left, self._since = most, now

    def spend(self, amount: float, now: float) -> Optional[float]:
        """Spend, if there is enough; None, or else the seconds until there will be and nothing is spent."""
        self._left = min(self._most, self._left + (now - self._since) * self._rate)
        self._since = now
        if amount > self._left:
            return (amount - self._left) / self._rate
        self._left -= amount
        return None
