"""A model measured on a task, in batch or as a live stream."""

from typing import Any, Optional

import torch
from torch import Tensor

from streamdrnn import StreamingDRNN
from streamdrnn.apps.training.metrics import metrics_of
from streamdrnn.apps.training.network import Baseline, Model
from streamdrnn.apps.training.tasks.task import Batch, Split, Task


class _InBatch:
    """Outputs ``(T, B, C)`` of whole batches."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.state: Optional[Any] = None

    def outputs(self, batch: Batch) -> Tensor:
        out: Tensor
        out, self.state = self.model(batch.x, None if batch.begins else self.state)
        return out


class _AsStream:
    """The same, one step after the other."""

    def __init__(self, model: Model) -> None:
        if isinstance(model, Baseline):
            raise ValueError("--stream: of the networks only dilated and stacked ones stream")
        self.model = model
        self.stream: Optional[StreamingDRNN] = None

    def outputs(self, batch: Batch) -> Tensor:
        if self.stream is None or self.stream.batch_size != batch.x.shape[1]:
            self.stream = StreamingDRNN(self.model, batch.x.shape[1])
        elif batch.begins:
            self.stream.reset()
        return torch.stack([self.stream.step(x_t) for x_t in batch.x])


@torch.inference_mode()
def evaluate(
    model: Model, task: Task, split: Split, as_stream: bool = False, process: int = 0, processes: int = 1
) -> dict[str, float]:
    """Measure a model on all the data of a split.

    Args:
        as_stream: whether the model gets the steps one by one, as :class:`streamdrnn.StreamingDRNN` would live.
        process, processes: which share of the sequences this process measures; the result is that of all of them.

    Raises:
        ValueError: the model does not stream, but has to.
    """
    device = next(model.parameters()).device
    metrics = metrics_of(task).to(device)
    was_training = model.training
    model.eval()
    way = _AsStream(model) if as_stream else _InBatch(model)
    for batch in task.evaluation(split):
        batch = batch.part(process, processes).to(device)
        logits = way.outputs(batch)
        # torchmetrics wants (N, C); a label of the sequence is predicted by its last output.
        metrics.update(logits.flatten(0, 1) if task.per_step else logits[-1], batch.target.flatten())
    model.train(was_training)
    return {name: float(value) for name, value in metrics.compute().items()}
