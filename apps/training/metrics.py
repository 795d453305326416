"""How predictions are measured, over any number of batches and processes."""

import math
from typing import Any, Union

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, one_hot
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.utilities import dim_zero_cat

from streamdrnn.apps.training.prediction import entropy
from streamdrnn.apps.training.tasks.task import FALSE_ALARMS, IGNORED, Task


class CrossEntropy(Metric):
    """The mean negative log-likelihood of what was to be predicted.

    Args:
        base: of the logarithm: e gives nats, 2 bits.
    """

    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self, base: float = math.e, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.base = base
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add predictions, arguments as for :func:`entropy`."""
        self.total += entropy(logits.double(), target, reduction="none").sum()
        self.count += (target != IGNORED).sum()

    def compute(self) -> Tensor:
        return self.total / self.count / math.log(self.base)


class UtteranceAccuracy(Metric):
    """The share of utterances whose windows together, by the sum of their log-probabilities, are judged right.

    Args:
        num_groups: the utterances.
        num_classes: C.
    """

    higher_is_better = True
    total: Tensor
    label: Tensor

    def __init__(self, num_groups: int, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros(num_groups, num_classes, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("label", torch.full((num_groups,), -1), dist_reduce_fx="max")

    def update(self, logits: Tensor, target: Tensor, group: Tensor) -> None:
        """Add windows: logits ``(N, C)``, targets ``(N,)``, and the utterance ``(N,)`` of each."""
        # A product rather than index_add_, whose sums on a GPU differ from run to run.
        member = one_hot(group, len(self.label)).double()
        self.total += member.T @ log_softmax(logits.double(), -1)
        self.label[group] = target

    def compute(self) -> Tensor:
        heard = self.label >= 0
        return (self.total.argmax(-1) == self.label)[heard].double().mean()


class RecallAtFalseAlarms(Metric):
    """Of what is there, the share that is found, with the threshold above which an output says that it is there."""

    higher_is_better = True
    outputs: list[Tensor]
    targets: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("outputs", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add predictions: logits ``(N, 1)`` and probabilities ``(N,)``; what has one of 0.5 or more is there."""
        self.outputs.append(logits[:, 0])
        self.targets.append(target)

    def compute(self) -> dict[str, Tensor]:
        outputs, targets = dim_zero_cat(self.outputs), dim_zero_cat(self.targets)
        return dict(zip(("recall", "threshold"), recall_and_threshold(outputs, targets >= 0.5), strict=True))


def recall_and_threshold(outputs: Tensor, is_there: Tensor) -> tuple[Tensor, Tensor]:
    """What is found by outputs above the lowest threshold with no more than :data:`FALSE_ALARMS`.

    Args:
        outputs: ``(N,)``.
        is_there: ``(N,)`` bool, whether there is what they should find.

    Returns:
        the share of it that is found, and the threshold.
    """
    alarms = outputs[~is_there].sort(descending=True).values
    threshold = alarms[int(FALSE_ALARMS * len(alarms))]
    return (outputs[is_there] > threshold).double().mean(), threshold


def metrics_of(task: Task) -> MetricCollection:
    """The loss in nats per prediction, and the metric of the task."""
    metrics: dict[str, Union[Metric, MetricCollection]] = {"loss": CrossEntropy()}
    if task.metric == "accuracy":
        metrics["accuracy"] = MulticlassAccuracy(task.num_outputs, average="micro", ignore_index=IGNORED)
    elif task.metric == "recall":
        metrics["recall"] = RecallAtFalseAlarms()
    elif task.metric == "bits":
        metrics["bits"] = CrossEntropy(base=2)
    if task.num_groups:
        metrics["utterance_accuracy"] = UtteranceAccuracy(task.num_groups, task.num_outputs)
    return MetricCollection(metrics, compute_groups=False)
