"""A model measured on a task, in batch or as a live stream."""

from collections.abc import Iterator
from typing import Optional

import torch
from torch import Tensor

from streamdrnn import StreamingDRNN
from streamdrnn.apps.training.metrics import metrics_of
from streamdrnn.apps.training.network import Model
from streamdrnn.apps.training.prediction import predict
from streamdrnn.apps.training.tasks.task import Batch, Split, Task
from streamdrnn.state import StreamState


class _InBatch:
    """What a model predicts of whole batches: ``(B, C)``, or ``(T, B, C)`` for every step."""

    def __init__(self, model: Model, per_step: bool) -> None:
        self.model = model
        self.per_step = per_step
        self.state: Optional[StreamState] = None

    def predict(self, batch: Batch) -> Tensor:
        state = None if batch.begins else self.state
        logits, self.state = predict(self.model, batch, state, self.per_step)
        return logits


class _AsStream:
    """The same, one step after the other."""

    def __init__(self, model: Model, per_step: bool) -> None:
        self.model = model
        self.per_step = per_step
        self.stream: Optional[StreamingDRNN] = None

    def predict(self, batch: Batch) -> Tensor:
        if self.stream is None or self.stream.batch_size != batch.x.shape[1]:
            self.stream = StreamingDRNN(self.model, batch.x.shape[1])
        elif batch.begins:
            self.stream.reset()
        outputs = [self.stream.push(chunk, active)[-1] for chunk, active in self._chunks(batch)]
        # A stream that has ended keeps its last judgement.
        return torch.stack(outputs) if self.per_step else outputs[-1]

    def _chunks(self, batch: Batch) -> Iterator[tuple[Tensor, Optional[Tensor]]]:
        """What makes one step of the network each, and which streams make it."""
        frontend = self.model.frontend
        first, further = (1, 1) if frontend is None else (frontend.window, frontend.hop_length)
        start = 0
        for end in range(first, len(batch.x) + 1, further):
            yield batch.x[start:end], None if batch.lengths is None else batch.lengths >= end
            start = end


@torch.inference_mode()
def evaluate(
    model: Model, task: Task, split: Split, as_stream: bool = False, process: int = 0, processes: int = 1
) -> dict[str, float]:
    """Measure a model on all the data of a split.

    Args:
        as_stream: whether the model gets the steps one by one, as :class:`streamdrnn.StreamingDRNN` would live.
        process, processes: which share of the sequences this process measures; the result is that of all of them.
    """
    device = next(model.parameters()).device
    metrics = metrics_of(task).to(device)
    was_training = model.training
    model.eval()
    way = _AsStream(model, task.per_step) if as_stream else _InBatch(model, task.per_step)
    for batch in task.evaluation(split):
        batch = batch.part(process, processes).to(device)
        if not batch.x.shape[1]:  # fewer sequences than processes
            continue
        # torchmetrics wants (N, C).
        metrics.update(way.predict(batch).flatten(0, -2), batch.target.flatten(), group=batch.group)
    model.train(was_training)
    return {name: float(value) for name, value in metrics.compute().items()}
