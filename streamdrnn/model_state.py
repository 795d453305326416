"""The state of a whole model: its front-end's, its network's, and what its head carries."""

from typing import NamedTuple, Optional

from torch import Tensor

from streamdrnn.audio.state import AudioState
from streamdrnn.state import DRNNState, StreamState


class _ModelFields(NamedTuple):
    audio: Optional[AudioState]
    rnn: DRNNState
    pooled: Tensor


class ModelState(_ModelFields, StreamState):
    """The state of a :class:`Classifier`, :class:`Tagger` or :class:`SpeakerEmbedder` for B streams.

    Attributes:
        audio: the front-end's state; None for a model without one.
        rnn: the network's state.
        pooled: ``(1, B, H)``, the running summary that the head reads; no slots if it reads single steps.
    """

    __slots__ = ()

    def describe(self) -> dict[str, str]:
        return {f"rnn.{name}": value for name, value in self.rnn.describe().items()}

    def check(self) -> None:
        self.rnn.check()
        super().check()
