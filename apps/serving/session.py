"""One stream that is open: what was received and answered, and what its client is still to be sent."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from math import ldexp
from typing import Any, Optional, Union

from streamdrnn.apps.serving.engine import Result
from streamdrnn.apps.serving.limits import Budget, Limits, RefusalError
from streamdrnn.apps.serving.served_model import ServedModel
from streamdrnn.apps.serving.snapshots import Snapshot
from streamdrnn.client import protocol
from streamdrnn.client.protocol import Code

_MOST_UNREAD = 4
"""Windows of messages that may wait for a client: one of results, the others of whatever else it asks for."""


class Outbox:
    """What a client is still to be sent, in order.

    Attributes:
        results: how many results wait; a result is bytes.
        say: sends a message at once, where it can (:meth:`Shortcut.say`); None where there is no such way.
    """

    def __init__(self) -> None:
        self._waiting = deque[Union[bytes, str, None]]()
        self._is_there = asyncio.Event()
        self._is_sending = False
        self.results = 0
        self.say: Optional[Callable[[Union[bytes, str]], bool]] = None

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: Union[bytes, str, None]) -> None:
        """At the end; None is the end of all."""
        is_first = not (self._waiting or self._is_sending)
        if self.say is not None and is_first and message is not None and self.say(message):
            return
        self.results += isinstance(message, bytes)
        self._waiting.append(message)
        self._is_there.set()

    async def take(self) -> Union[bytes, str, None]:
        """The next message, when there is one. Until the next call it is being sent, and nothing overtakes it."""
        self._is_sending = False
        await self._is_there.wait()
        self._is_sending = True
        message = self._waiting.popleft()
        self.results -= isinstance(message, bytes)
        if not self._waiting:
            self._is_there.clear()
        return message


class Session:
    """A stream between its opening and its end.

    A result stays here until the client says that it has it, for which it has to: it may be no more than the window
    ahead. It can have no result that its connection was not given. So a client that does not read stops itself, with a
    bounded number of results that wait for it here, whatever it says that it has.

    Args:
        stream: its id.
        claim: under which the store keeps it.
        away: seconds since the store last had it saved or claimed.
        model: what answers.
        slot: the stream's in the model's engine.
        snapshot: where it continues.

    Attributes:
        outbox: messages for the client.
        ended: done when the stream is to end here; its result is why, None for a client that closed it or left.
        gone: set when the stream is no longer this server's.
        heard: when the client last said something.
        saved: the last input in the snapshot that the store has.
        saved_at: when the store got it.
        save_at: when it is to be saved again, if there is more by then.
    """

    def __init__(
        self,
        stream: str,
        claim: int,
        away: float,
        model: ServedModel,
        slot: int,
        snapshot: Snapshot,
        limits: Limits,
    ) -> None:
        self.stream, self.claim, self.model, self.slot = stream, claim, model, slot
        self.format = snapshot.format
        self._limits = limits
        now = time.monotonic()
        # Each server that had it in between, and did not save it, had half of what those before it had left.
        others = max(0, claim - snapshot.claim - 1)
        left = ldexp(snapshot.steps, -others) + limits.rate * away
        self._budget = Budget(limits.rate, limits.rate * limits.burst_seconds, now, left)
        self.heard = now
        self.received = self.processed = self.saved = snapshot.seq
        self.save_at = self.saved_at = now
        self._ack = snapshot.ack
        self._unread = deque(snapshot.results)  # those of ack + 1 to processed
        self._failed = False
        self._progress = asyncio.Event()
        self.outbox = Outbox()
        self.ended: asyncio.Future[Optional[RefusalError]] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()
        self.closed = False

    def greet(self, ack: int) -> None:
        """Tell the client where the stream stands, and what it did not get before.

        Raises:
            RefusalError: the client claims to have results that there are none of, or gave up some before.
        """
        if ack < self._ack:
            raise RefusalError(
                Code.BAD_SEQUENCE, f"ack: the client had result {self._ack} before, and now has only {ack}"
            )
        self._forget_results(min(ack, self.processed))
        opened = {
            "type": "opened",
            "version": protocol.VERSION,
            "stream": self.stream,
            "format": self.format,
            "seq": self.processed,
            "window": self._limits.window,
            "rate": self._limits.rate,
            "burst_seconds": self._limits.burst_seconds,
            "burst": self._budget.left(time.monotonic()),
            **self.model.describe(),
        }
        self.outbox.put(json.dumps(opened))
        for result in self._unread:
            self.outbox.put(result)

    def hear_input(self, data: bytes) -> None:
        """Take a binary message.

        Raises:
            RefusalError: it is malformed, out of order, too large, too soon, or has values that cannot be.
        """
        if self._failed or self.ended.done():
            return  # the stream ends before this message
        try:
            message = protocol.unpack_input(data)
        except ValueError as error:
            raise RefusalError(Code.BAD_MESSAGE, str(error)) from None
        self._check_sequence(message.seq, message.ack)
        inputs = self.model.decode(self.format, message.payload)
        self._spend(max(1.0, self.model.steps(inputs)))  # an empty message is work, too
        try:
            self.model.batcher.submit(self.slot, inputs, (self, message.seq))
        except ValueError as error:  # a number is not finite
            raise RefusalError(Code.BAD_VALUE, str(error)) from None
        self.received = message.seq

    async def hear_reset(self, seq: Any, ack: Any) -> None:
        """Begin anew: an input of its own number, whose result has no rows.

        Raises:
            RefusalError: it is out of order, or too soon.
        """
        if type(seq) is not int or type(ack) is not int:
            raise RefusalError(Code.BAD_MESSAGE, "reset: expected integers seq and ack")
        self._check_sequence(seq, ack)
        self._spend(1)
        await self.settled()
        if self._failed:
            return
        self.received = seq

        def prepare() -> Any:
            # Whoever takes a snapshot comes before or after both of these.
            self._answer(seq, b"")
            return lambda: self.model.engine.put(self.slot, None)

        await self.model.batcher.between(prepare)

    def hear_snapshot(self) -> None:
        """Take a request for a snapshot, which costs as much as a message of the largest size.

        Raises:
            RefusalError: it is too soon.
        """
        self._spend(self.model.frame_steps)

    def answered(self, seq: int, result: Result) -> None:
        """Take a result from the engine."""
        if self._failed:
            return
        if result.problem:
            # What came after it would be heard without it.
            self.model.engine.clear(self.slot)
            self._failed = True
            self._progress.set()
            self.end(RefusalError(Code.BAD_VALUE, f"message {seq}: {result.problem}"))
            return
        self._answer(seq, result.outputs.astype("<f4", copy=False).tobytes())

    async def settled(self) -> None:
        """Wait until all that was received is processed (or, after a failure, never will be)."""
        while self.processed < self.received and not self._failed:
            self._progress.clear()
            await self._progress.wait()

    def end(self, why: Optional[RefusalError]) -> None:
        """Let the stream end here."""
        if not self.ended.done():
            self.ended.set_result(why)

    def snapshot(self) -> Snapshot:
        """The stream as it is now, but for the state, which the engine has."""
        left = self._budget.left(time.monotonic())
        # While the stream goes on, its client may spend all of it here before the stream is continued elsewhere.
        steps = left if self.ended.done() else left / 2
        results = tuple(self._unread)
        return Snapshot(self.model.digest, self.format, self.processed, self._ack, results, None, steps, self.claim)

    def tell_saved(self, seq: int) -> None:
        """Tell the client that it need not send again what came up to here."""
        self.saved, self.saved_at = seq, time.monotonic()
        self.outbox.put(json.dumps({"type": "snapshot", "seq": seq}))

    def _check_sequence(self, seq: int, ack: int) -> None:
        if seq != self.received + 1:
            raise RefusalError(Code.BAD_SEQUENCE, f"seq: expected {self.received + 1}, got {seq}")
        if ack < self._ack:
            raise RefusalError(Code.BAD_SEQUENCE, f"ack: expected {self._ack} or more, got {ack}")
        # A client that continues may have results of inputs that it is sending again, and that are not processed here;
        # one that does not read may claim to have those that still wait for it.
        ack = min(ack, self.processed - self.outbox.results)
        if seq - ack > self._limits.window:
            raise RefusalError(
                Code.BAD_SEQUENCE, f"seq: expected at most {self._limits.window} beyond the last result, got {seq}"
            )
        self._forget_results(ack)

    def _forget_results(self, ack: int) -> None:
        for _ in range(ack - self._ack):
            self._unread.popleft()
        self._ack = ack

    def _spend(self, steps: float) -> None:
        """Grant what the client asks for, whose answer will be in the outbox."""
        if len(self.outbox) > _MOST_UNREAD * self._limits.window:
            raise RefusalError(Code.TOO_FAST, "expected a client that reads what it asks for")
        wait = self._budget.spend(steps, time.monotonic())
        if wait is not None:
            raise RefusalError(
                Code.TOO_FAST, f"expected at most {self._limits.rate:g} steps per second, try again in {wait:.1f} s"
            )

    def _answer(self, seq: int, payload: bytes) -> None:
        result = protocol.pack_result(protocol.Result(seq, payload))
        self._unread.append(result)
        self.processed = seq
        self.outbox.put(result)
        self._progress.set()
