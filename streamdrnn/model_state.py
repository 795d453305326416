"""The state of a whole model: its front-end's, its network's, and what its head carries."""

from typing import NamedTuple, Optional, Self, Union

import torch
from torch import Tensor

from streamdrnn.audio.state import AudioState
from streamdrnn.drnn_state import DRNNState
from streamdrnn.state import StreamState


class _ModelFields(NamedTuple):
    audio: Optional[AudioState]
    rnn: DRNNState
    pooled: Tensor


class ModelState(_ModelFields, StreamState):
    """The state of a :class:`Classifier`, :class:`Tagger` or :class:`SpeakerEmbedder` for B streams.

    Attributes:
        audio: the front-end's state; None for a model without one.
        rnn: the network's state.
        pooled: ``(1, B, H)``, always float64: the running summary that the head reads. No slots if it has none.
    """

    __slots__ = ()

    def to(self, device: Union[str, torch.device, None] = None, dtype: Optional[torch.dtype] = None) -> Self:
        audio = None if self.audio is None else self.audio.to(device, dtype)
        return type(self)(audio, self.rnn.to(device, dtype), self.pooled.to(device))

    def describe(self) -> dict[str, str]:
        return {f"rnn.{name}": value for name, value in self.rnn.describe().items()}

    def check(self) -> None:
        self.rnn.check()
        super().check()
        if self.pooled.dim() != 3 or self.pooled.dtype != torch.float64:
            raise ValueError(f"pooled has shape {tuple(self.pooled.shape)} and dtype {self.pooled.dtype}")
        if self.audio is not None:
            self.audio.check()
