"""What a model predicts of a batch."""

from typing import Optional

import torch
from torch import Tensor

from streamdrnn.apps.training.network import Model
from streamdrnn.apps.training.tasks.task import Batch
from streamdrnn.state import StreamState


def predict(model: Model, batch: Batch, state: Optional[StreamState], per_step: bool) -> tuple[Tensor, StreamState]:
    """What a model makes of a batch.

    Args:
        state: of the network, after the batch before; None where sequences begin.

    Returns:
        logits, ``(T, B, C)`` for every step or ``(B, C)`` for the sequences, and the network's state.
    """
    # Not the head's own forward: it judges at every step, and a label is judged by the last alone.
    x, lengths, _ = model.features(batch.x, None, batch.lengths)
    y, state = model.rnn(x, state)
    if not per_step:
        y = y[-1] if lengths is None else y[lengths - 1, torch.arange(y.shape[1], device=y.device)]
    return model.output(y), state
