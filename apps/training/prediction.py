"""What a model predicts of a batch, and how far that is from what is true."""

from typing import Literal, Optional

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from streamdrnn import DilatedRNN, DRNNState
from streamdrnn.apps.training.network import Model
from streamdrnn.apps.training.tasks.task import IGNORED, Batch
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
    if not per_step and type(model.rnn) is DilatedRNN:
        assert state is None or isinstance(state, DRNNState)
        y, after = model.rnn.last(x, state, lengths)
        return model.output(y), after
    y, state = model.rnn(x, state)
    if not per_step:
        y = y[-1] if lengths is None else y[lengths - 1, torch.arange(y.shape[1], device=y.device)]
    return model.output(y), state


def entropy(logits: Tensor, target: Tensor, reduction: Literal["mean", "none"] = "mean") -> Tensor:
    """The cross-entropy of predictions in nats.

    Args:
        logits: ``(N, C)``, or ``(N, 1)`` where the targets are probabilities.
        target: ``(N,)`` int64 classes, :data:`IGNORED` where nothing is to be predicted; or float32 probabilities.
    """
    if target.is_floating_point():
        return binary_cross_entropy_with_logits(logits[:, 0], target.to(logits.dtype), reduction=reduction)
    return cross_entropy(logits, target, ignore_index=IGNORED, reduction=reduction)
