"""The memory of a client, so that nothing is lost: no sockets here, only which messages go and what came.

The blocking client and the asyncio client both drive this.
"""

import json
import time
from collections import deque
from typing import Any, Optional, Union

import numpy as np

from streamdrnn.client import protocol
from streamdrnn.client.protocol import FORMATS, Code, Input
from streamdrnn.errors import InputError


class RefusedError(ConnectionError):
    """The server refused what the client asked for; asking again would not help.

    Attributes:
        code: one of :class:`streamdrnn.client.protocol.Code`, or WebSocket's own.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} (code {code})")
        self.code = code


PASSING = {Code.SERVER_LEAVES, Code.IDLE, Code.TOO_FAST, Code.STORE_FAILED, Code.TOO_MANY_STREAMS}
"""Refusals after which another connection may do better."""


class Exchange:
    """One stream as its client sees it, over as many connections as it takes.

    Args:
        model: the name by which the server has it.
        input_format: one of :data:`streamdrnn.client.protocol.FORMATS`.
        token: if the server wants one.

    Attributes:
        opened: what the server said of the model and its limits; empty before the first connection.
        finished: whether the server has closed the stream.
    """

    def __init__(self, model: str, input_format: str, token: Optional[str] = None) -> None:
        if input_format not in FORMATS:
            raise InputError(f"format: expected one of {list(FORMATS)}, got {input_format!r}")
        self._model, self._format, self._token = model, input_format, token
        self.opened: dict[str, Any] = {}
        self.finished = False
        self._sent_by = 0  # the last input that this connection was given
        self._answered_here = 0  # the last result that this connection gave
        self._ack = 0  # the last result that any gave
        self._saved = 0
        self._unsaved = deque[tuple[int, Optional[bytes]]]()  # inputs that the server may yet forget; None is a reset
        self._results = dict[int, np.ndarray]()
        self._unwanted = set[int]()  # results that nobody waits for any more
        self._request: Optional[str] = None
        self._requested_here = self._asked_to_close = False
        self._budget = self._budget_since = 0.0

    @property
    def stream(self) -> str:
        """The stream's id, by which it can be continued: a secret, as whoever knows it can take the stream over."""
        return str(self.opened.get("stream", ""))

    @property
    def last(self) -> int:
        """The last input there is."""
        return self._unsaved[-1][0] if self._unsaved else self._saved

    @property
    def progress(self) -> int:
        """Grows with all that the server does for the stream."""
        return self._ack + self._saved + self.finished

    def saved(self, seq: int) -> bool:
        """Whether the server has saved all up to an input."""
        return self._saved >= seq

    def greeting(self) -> str:
        """The first message of a connection."""
        token = {} if self._token is None else {"token": self._token}
        what: dict[str, Any] = {"type": "open", "model": self._model, "format": self._format}
        if self.opened:
            what = {"type": "restore", "stream": self.stream, "ack": self._ack}
        return json.dumps({**what, "version": protocol.VERSION, **token})

    def add(self, inputs: np.ndarray) -> tuple[int, int]:
        """Put inputs in line, cut into messages of the size that the server takes.

        Returns:
            the numbers of the first and the last message; at least one.

        Raises:
            ValueError: the shape does not fit the stream's format.
        """
        self._check_open()
        values = self._encoded(inputs)
        size, last = self.opened["max_frame"], self.last
        messages = [values[start : start + size].tobytes() for start in range(0, max(1, len(values)), size)]
        self._unsaved.extend(enumerate(messages, last + 1))  # at once: all of it is in line, or nothing
        return last + 1, self.last

    def add_reset(self) -> int:
        """Put a reset in line; its number."""
        self._check_open()
        self._unsaved.append((self.last + 1, None))
        return self.last

    def request(self, what: str) -> None:
        """Ask for ``"snapshot"`` or ``"close"``, after all that is in line."""
        if what != "close":  # which may be asked for again, if nobody waited for the answer
            self._check_open()
        self._request, self._requested_here = what, False

    def withdraw(self) -> None:
        """Ask no more for what was not asked yet."""
        if not self._requested_here:
            self._request = None

    def abandon(self, first: int, last: int) -> None:
        """Forget the results of some inputs, those that come, too: whoever waited for them does so no more."""
        for seq in range(first, last + 1):
            if self._results.pop(seq, None) is None and seq > self._ack:
                self._unwanted.add(seq)

    def next_message(self) -> Union[bytes, str, float, None]:
        """The message to be sent now; or the seconds to wait before asking again; None: something must come first."""
        if self._sent_by >= self.last:
            if self._request is None or self._requested_here:
                return None
            wait = self._pace(self.opened["max_frame"] / self.opened["hop_length"])
            if wait > 0:
                return wait
            self._requested_here = True
            self._asked_to_close = self._asked_to_close or self._request == "close"
            return json.dumps({"type": self._request})
        seq = self._sent_by + 1
        if seq > min(self._ack, self._answered_here) + self.opened["window"]:
            return None
        payload = self._unsaved[seq - self._unsaved[0][0]][1]
        wait = self._pace(1.0 if payload is None else self._steps(payload))
        if wait > 0:
            return wait
        self._sent_by = seq
        if payload is None:
            return json.dumps({"type": "reset", "seq": seq, "ack": self._ack})
        return protocol.pack_input(Input(seq, self._ack, payload))

    def receive(self, message: Union[bytes, str]) -> None:
        """Take what the server sent.

        Raises:
            RefusedError: it is a refusal for good.
            ConnectionError: it is one that another connection may do better with, or breaks the protocol.
        """
        try:
            if isinstance(message, str):
                self._receive_text(json.loads(message))
            else:
                self._receive_result(message)
        except (KeyError, TypeError, ValueError) as error:
            raise ConnectionError(f"the server does not keep to the protocol: {error}") from None

    def answered(self, seq: int) -> bool:
        """Whether the result of an input is here."""
        return seq <= self._ack

    def take(self, first: int, last: int) -> np.ndarray:
        """The outputs ``(steps, E)`` of some inputs, in their order; each can be taken once."""
        nothing = np.zeros((0, self.opened["output_size"]), np.float32)
        return np.concatenate([nothing, *(self._results.pop(seq) for seq in range(first, last + 1))])

    def _check_open(self) -> None:
        if self.finished or self._asked_to_close:
            raise InputError("the stream is closed")

    def _receive_text(self, fields: dict[str, Any]) -> None:
        kind = fields["type"]
        if kind == "opened":
            self._greeted(fields)
        elif kind == "snapshot":
            self._saved = max(self._saved, int(fields["seq"]))
            while self._unsaved and self._unsaved[0][0] <= self._saved:
                self._unsaved.popleft()
            if self._request == "snapshot" and self._requested_here and self.saved(self.last):
                self._request = None
        elif kind == "closed":
            self.finished = True
        elif kind == "error":
            if fields["code"] == Code.UNKNOWN_STREAM and self._asked_to_close:
                self.finished = True  # it was closed, and the connection lost before it could say so
                return
            if fields["code"] in PASSING and (self.opened or fields["code"] != Code.TOO_MANY_STREAMS):
                raise ConnectionError(fields["message"])
            raise RefusedError(fields["code"], fields["message"])

    def _greeted(self, fields: dict[str, Any]) -> None:
        seq = int(fields["seq"])
        if seq < self._saved or seq > self.last:
            raise RefusedError(
                Code.BAD_SEQUENCE, f"the server continues after input {seq}, which this stream is not at"
            )
        self.opened = fields
        # Results up to seq that this client lacks come next; inputs after it are sent again.
        self._sent_by, self._requested_here = seq, False
        self._answered_here = seq if self._ack >= seq else self._ack
        self._budget, self._budget_since = min(self._burst(), fields.get("burst", self._burst())), time.monotonic()

    def _receive_result(self, message: bytes) -> None:
        seq, payload = protocol.unpack_result(message)
        self._answered_here = max(self._answered_here, seq)
        if seq <= self._ack:
            return  # answered before the last connection was lost, and now again
        if seq != self._ack + 1:
            raise ValueError(f"expected result {self._ack + 1}, got {seq}")
        rows = np.frombuffer(payload, "<f4").reshape(-1, self.opened["output_size"])
        if seq not in self._unwanted:
            self._results[seq] = rows.astype(np.float32)
        self._ack = seq
        self._unwanted.discard(seq)

    def _encoded(self, inputs: np.ndarray) -> np.ndarray:
        values = np.asarray(inputs)
        if self._format == "features":
            if values.ndim != 2 or values.shape[1] != self.opened["input_size"]:
                raise InputError(f"inputs: expected shape (steps, {self.opened['input_size']}), got {values.shape}")
        elif values.ndim != 1:
            raise InputError(f"inputs: expected shape (samples,), got {values.shape}")
        if self._format == "pcm16" and values.dtype != np.int16:
            raise InputError(f"inputs: expected int16 samples, got {values.dtype}")
        if self._format != "pcm16" and not np.isfinite(values).all():
            raise InputError("inputs: expected finite values, got NaN or infinity")
        encoded: np.ndarray = np.ascontiguousarray(values, FORMATS[self._format])
        return encoded

    def _steps(self, payload: bytes) -> float:
        row = self.opened["input_size"] if self._format == "features" else self.opened["hop_length"]
        return max(1.0, len(payload) / (FORMATS[self._format].itemsize * int(row)))

    def _burst(self) -> float:
        # Half of what the server grants: what is sent evenly may arrive bunched.
        return float(self.opened["rate"] * self.opened["burst_seconds"]) / 2

    def _pace(self, steps: float) -> float:
        """Spend steps; 0, or else the seconds to wait first."""
        now = time.monotonic()
        self._budget = min(self._burst(), self._budget + (now - self._budget_since) * self.opened["rate"])
        self._budget_since = now
        if steps > self._budget and self._budget < self._burst():
            return float((min(steps, self._burst()) - self._budget) / self.opened["rate"])
        self._budget -= steps
        return 0.0
