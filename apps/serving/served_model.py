"""A model file as a server offers it."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from streamdrnn.apps.serving.batcher import Batcher
from streamdrnn.apps.serving.engine import Engine, Result
from streamdrnn.apps.serving.limits import Limits, RefusalError
from streamdrnn.apps.serving.metrics import Metrics
from streamdrnn.apps.weights import load_to_run
from streamdrnn.client.protocol import FORMATS, INPUT_HEADER, Code
from streamdrnn.heads import Head
from streamdrnn.kernels import AS_THEY_ARE


class ServedModel:
    """A model with its engine, and how the messages of its streams are read.

    Args:
        path: of a model file; the model is called as the file is, without its ending.
        limits: of the server.
        max_wait, weights: see :class:`Engine`.
        deliver: called with every result.

    Raises:
        FileNotFoundError, ValueError: as :func:`streamdrnn.load_model`.

    Attributes:
        digest: of the file, and of how the weights are rounded, by which a stream finds on another server a model that
            gives the same results.
        frame_steps: the network's steps in one message: as many as ``limits`` has, or fewer where results are large.
        formats: those of :data:`streamdrnn.client.protocol.FORMATS` that the model takes.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits,
        max_wait: float,
        metrics: Metrics,
        deliver: Callable[[Result], None],
        weights: str = AS_THEY_ARE,
    ) -> None:
        model = load_to_run(path)
        self.name = path.stem
        rounded = b"" if weights == AS_THEY_ARE else weights.encode()
        self.digest = hashlib.sha256(path.read_bytes() + rounded).hexdigest()
        self.kind = type(model).__name__
        frontend = model.frontend if isinstance(model, Head) else None
        self.formats = ("features",) if frontend is None else ("float32", "pcm16")
        self._sample_rate = None if frontend is None else frontend.sample_rate
        self._units_per_step = 1 if frontend is None else frontend.hop_length
        self.engine = Engine(model, limits.streams, max_wait, weights)
        unread_steps = limits.unread_bytes // (4 * self.engine.output_size)
        self.frame_steps = min(limits.frame_steps, max(1, unread_steps // limits.window))
        self.max_frame: int = self.frame_steps * self._units_per_step
        self.input_size = self.engine.input_shape[0] if self.engine.input_shape else 1
        self._sizes = {name: FORMATS[name].itemsize * self.input_size for name in self.formats}
        self.batcher = Batcher(self.name, self.engine, metrics, deliver)

    def describe(self) -> dict[str, Any]:
        """What a client has to know to send and to read; sizes of frames are in samples, or in steps."""
        return {
            "model": self.name,
            "kind": self.kind,
            "formats": list(self.formats),
            "input_size": self.input_size,
            "output_size": self.engine.output_size,
            "sample_rate": self._sample_rate,
            "hop_length": self._units_per_step,
            "max_frame": self.max_frame,
        }

    @property
    def max_message(self) -> int:
        """Bytes of the largest binary message that can be right."""
        widest = max(FORMATS[name].itemsize for name in self.formats)
        return INPUT_HEADER + self.max_frame * widest * self.input_size

    def steps(self, inputs: np.ndarray) -> float:
        """What a message costs, in steps of the network."""
        return len(inputs) / self._units_per_step

    def decode(self, name: str, payload: bytes) -> np.ndarray:
        """A message's inputs, ``(N,)`` samples or ``(T, I)`` steps, as :meth:`Engine.submit` takes them.

        Raises:
            RefusalError: the payload is too long, or is cut in the middle of a number or step.
        """
        dtype, row = FORMATS[name], self.input_size
        size = self._sizes[name]
        if len(payload) % size:
            raise RefusalError(
                Code.BAD_MESSAGE, f"expected a multiple of {size} bytes after the header, got {len(payload)}"
            )
        if len(payload) > size * self.max_frame:
            what = "steps" if self.engine.input_shape else "samples"
            raise RefusalError(
                Code.FRAME_TOO_LARGE, f"expected {self.max_frame} {what} or fewer, got {len(payload) // size}"
            )
        values: np.ndarray = np.frombuffer(payload, dtype)
        return values.reshape(-1, row) if self.engine.input_shape else values
