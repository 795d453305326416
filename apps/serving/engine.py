"""Many streams through one model: what waits goes through it together, each stream under its own length.

Nothing here knows of sockets or of asyncio: the caller says what time it is, and when to compute.
"""

import math
from collections import deque
from typing import Any, NamedTuple, Optional, Union

import numpy as np
import torch
from torch import Tensor

from streamdrnn.errors import InputError, refusing_input
from streamdrnn.heads import Head
from streamdrnn.kernels import AS_THEY_ARE
from streamdrnn.network import Network, parameter_of
from streamdrnn.streaming import State, StreamingDRNN

_PCM16_SCALE, _ONE = np.float32(1 / 32768), np.float32(1)  # exact, as is a product with either


class Waiting(NamedTuple):
    """A message that no pass has taken yet: its inputs, when it came, and what its result is to be marked with."""

    inputs: np.ndarray
    since: float
    ticket: Any


class Batch(NamedTuple):
    """What goes through the model in one pass: of each stream in it, one message."""

    slots: list[int]
    messages: list[Waiting]


class Result(NamedTuple):
    """The answer to one message.

    Attributes:
        ticket: as it was submitted with.
        since: when the message came.
        outputs: ``(steps, E)`` float32, one row for each step of the network that the message completed. It lies among
            the others' of its pass: who keeps it keeps them all in memory.
        problem: why there is no answer; empty when there is one. The stream is then as it was before the message.
    """

    ticket: Any
    since: float
    outputs: np.ndarray
    problem: str = ""


class Engine:
    """The slots of one :class:`StreamingDRNN`, and what its streams wait for.

    Two threads may share an engine: one for what the model computes (:meth:`advance`, :meth:`put`, :attr:`state`), one
    for all else.

    A message goes through the model whole, in one pass, and a pass takes at most one message of a stream. So who sends
    much waits for his own turns, and delays the others by no more than one message of the largest size.

    Args:
        model: a network (:mod:`streamdrnn.network`) or a head.
        slots: how many streams there may be at a time.
        max_wait: seconds that a message waits for others to go with it, at the longest.
        weights: how the network's weights are held, see :class:`StreamingDRNN`.

    Raises:
        ValueError: ``max_wait`` is below 0, or nobody can hold the weights so.

    Attributes:
        input_shape: the shape of a message's inputs after its first dimension: ``()`` for a model with a front-end,
            which takes samples, else ``(I,)``.
        output_size: E, the numbers in an output.
        slots: how many streams there may be at a time.
    """

    def __init__(self, model: Union[Network, Head], slots: int, max_wait: float, weights: str = AS_THEY_ARE) -> None:
        if not 0 <= max_wait < math.inf:
            raise InputError(f"max_wait: expected 0 seconds or more, got {max_wait}")
        with refusing_input():
            self._streaming = StreamingDRNN(model, slots, weights)
        rnn: Any = model.rnn if isinstance(model, Head) else model
        self._batch_first = getattr(rnn, "batch_first", False)
        self._dtype = parameter_of(rnn).dtype
        has_frontend = isinstance(model, Head) and model.frontend is not None
        self.input_shape = () if has_frontend else (rnn.input_size,)
        self.max_wait = max_wait
        nothing = self._push(np.zeros((0, 1, *self.input_shape), np.float32), [0], [0])
        self.output_size = nothing.shape[-1]
        self.slots = slots
        self._free = list(range(slots))[::-1]
        self._queues: dict[int, deque[Waiting]] = {}  # of the slots in use
        self._ready = dict[int, None]()  # the slots whose queues are not empty, in the order in which they became so
        self._oldest = 0.0  # when the first of what waits came, or before

    @property
    def streams(self) -> int:
        """How many slots are in use."""
        return len(self._queues)

    @property
    def waiting(self) -> int:
        """How many messages no pass has taken yet."""
        return sum(map(len, self._queues.values()))

    def acquire(self) -> Optional[int]:
        """A free slot, its stream's state whatever it was: :meth:`put` one into it. None if there is no free slot."""
        if not self._free:
            return None
        slot = self._free.pop()
        self._queues[slot] = deque()
        return slot

    def release(self, slot: int) -> None:
        """Give a slot back; what waits for it is forgotten."""
        self.clear(slot)
        del self._queues[slot]
        self._free.append(slot)

    def submit(self, slot: int, inputs: np.ndarray, now: float, ticket: Any) -> bool:
        """Put a message at the end of a stream's queue; whether :meth:`due` gives another time than before.

        Args:
            slot: the stream's.
            inputs: ``(N,)`` samples, float32 or of 16 bits as int16, or ``(T, I)`` steps, see :attr:`input_shape`; not
                to be written to any more.
            now: the time, in seconds, by a clock that never goes back.
            ticket: what marks the result.

        Raises:
            ValueError: the shape does not fit, or a value is not finite.
        """
        if inputs.shape[1:] != self.input_shape or inputs.ndim == 0:
            raise ValueError(f"inputs: expected shape (any, *{self.input_shape}), got {inputs.shape}")
        if inputs.dtype.kind == "f" and not np.isfinite(inputs).all():
            raise ValueError("inputs: expected finite values, got NaN or infinity")
        nothing_waited = not self._ready
        if nothing_waited:
            self._oldest = now
        self._queues[slot].append(Waiting(inputs, now, ticket))
        self._ready[slot] = None
        return nothing_waited or len(self._ready) == len(self._queues)

    def clear(self, slot: int) -> None:
        """Forget what waits for a slot."""
        self._queues[slot].clear()
        self._ready.pop(slot, None)

    def due(self, now: float) -> Optional[float]:
        """Seconds until the next pass should be made, 0 for at once; None while nothing waits.

        A pass is due when every stream has something waiting, as then there is nobody to wait for, or when some
        message has waited for ``max_wait``.
        """
        if not self._ready:
            return None
        return 0.0 if len(self._ready) == len(self._queues) else max(0.0, self._oldest + self.max_wait - now)

    def gather(self) -> Batch:
        """Take the first waiting message of every stream out of its queue."""
        slots = list(self._ready)
        messages = [self._queues[slot].popleft() for slot in slots]
        left = {slot: self._queues[slot][0].since for slot in slots if self._queues[slot]}
        self._ready, self._oldest = dict.fromkeys(left), min(left.values(), default=0.0)
        return Batch(slots, messages)

    def advance(self, batch: Batch) -> list[Result]:
        """Run the model over a batch.

        Returns:
            a result for every message, in their order. What one message does wrong is its own result's problem; the
            others are answered.
        """
        if not batch.slots:
            return []
        try:
            return self._advance(batch)
        except Exception as error:  # whatever it is, one stream's must not end the others
            if len(batch.slots) == 1:
                (message,) = batch.messages
                nothing = np.zeros((0, self.output_size), np.float32)
                return [Result(message.ticket, message.since, nothing, " ".join(str(error).split()))]
        # The model refuses a batch as a whole and stays as it was. One by one, the culprit is found.
        alone = [Batch([slot], [message]) for slot, message in zip(*batch, strict=True)]
        return [result for one in alone for result in self.advance(one)]

    def put(self, slot: int, state: Optional[State]) -> None:
        """Let a slot's stream continue from a state of one stream, or, with None, from the beginning.

        Raises:
            TypeError, ValueError: as :meth:`StreamingDRNN.restore`.
        """
        if state is None:
            self._streaming.reset(slot)
        else:
            self._streaming.restore(state, slot)

    @property
    def state(self) -> State:
        """The states of all slots as one batch; the next pass writes into it."""
        return self._streaming.state

    def beginning(self) -> State:
        """The state of a stream before its first step."""
        state: State = self._streaming.model.zero_state(1)
        return state

    def _advance(self, batch: Batch) -> list[Result]:
        slots, messages = batch
        inputs = [message.inputs for message in messages]
        lengths = list(map(len, inputs))
        before = self._streaming.cursor
        y = self._push(self._chunk(inputs, max(lengths)), lengths, slots)
        steps = (self._streaming.cursor - before)[slots].tolist()
        rows = np.ascontiguousarray(y.swapaxes(0, 1))
        return [
            Result(message.ticket, message.since, own[:made])
            for message, own, made in zip(messages, rows, steps, strict=True)
        ]

    def _chunk(self, inputs: list[np.ndarray], longest: int) -> np.ndarray:
        """Inputs next to one another, ``(N, B)`` or ``(T, B, I)`` float32, with zeros after those that are shorter."""
        whole = [one if len(one) == longest else _padded(one, longest) for one in inputs]
        chunk = np.concatenate(whole).reshape(len(whole), longest, *self.input_shape).astype(np.float32)
        kinds = {one.dtype.kind for one in inputs}
        if kinds == {"i"}:
            chunk *= _PCM16_SCALE
        elif "i" in kinds:
            chunk *= np.array([_PCM16_SCALE if one.dtype.kind == "i" else _ONE for one in inputs])[:, None]
        return np.ascontiguousarray(chunk.swapaxes(0, 1))

    def _push(self, chunk: np.ndarray, lengths: list[int], slots: list[int]) -> np.ndarray:
        """Outputs ``(T, B, E)`` for a chunk ``(N, B)`` or ``(T, B, I)`` of some slots' streams."""
        x = torch.from_numpy(chunk).to(self._dtype if self.input_shape else torch.float32)
        own = torch.tensor(lengths)
        if self._batch_first:
            y = self._streaming.push(x.transpose(0, 1), lengths=own, streams=slots).transpose(0, 1)
        else:
            y = self._streaming.push(x, lengths=own, streams=slots)
        result: Tensor = y.to(torch.float32)
        return result.numpy()


def _padded(inputs: np.ndarray, longest: int) -> np.ndarray:
    padded = np.zeros((longest, *inputs.shape[1:]), inputs.dtype)
    padded[: len(inputs)] = inputs
    return padded
