"""Right before fast: every contender's results against float64, on inputs of their own."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from streamdrnn import DilatedRNN
from streamdrnn.apps.bench.agreement import relative_rms
from streamdrnn.apps.bench.cuda.contenders import of_model, torch_twin
from streamdrnn.apps.bench.cuda.precision import LIMITS, autocast
from streamdrnn.apps.bench.cuda.target import Target
from streamdrnn.apps.bench.forward_train import Network
from streamdrnn.apps.bench.works import Work

CHECKED_STATES = 2**28
"""States (of all units, layers, steps and sequences) that are checked: float64 needs some 80 bytes for each. Of a
larger batch the first sequences are compared."""


class Errors(NamedTuple):
    """Relative RMS errors against float64.

    Attributes:
        outputs: of y.
        gradients: the largest of any gradient; None where none was computed.
    """

    outputs: float
    gradients: float | None = None

    def excess(self, precision: str) -> str:
        """What exceeds the precision's limits, in words; empty if nothing does. NaN does."""
        limits = LIMITS[precision]
        if not self.outputs < limits.outputs:
            return f"wrong: outputs {self.outputs:.1e}, limit {limits.outputs:.1e}"
        if self.gradients is not None and not self.gradients < limits.gradients:
            return f"wrong: gradients {self.gradients:.1e}, limit {limits.gradients:.1e}"
        return ""


class Check:
    """Random inputs, and what float64 makes of them: computed once, for all precisions and contenders.

    Args:
        model: the network.
        work: the batch that it runs on.
        train: whether gradients are compared.
    """

    def __init__(self, target: Target, model: DilatedRNN, work: Work, train: bool) -> None:
        self._kind, self._train = target.kind, train
        sequences = max(1, CHECKED_STATES // (work.steps * work.hidden * work.layers))
        self._x = work.input(target.device)[:, :sequences].contiguous()
        self._dy = torch.randn(*self._x.shape[:2], work.hidden, device=target.device)
        exact = of_model(torch_twin(model, torch.float64))
        self._expected = self._results(exact, self._x.double(), "ieee")

    def errors(self, network: Network, precision: str) -> Errors:
        """Run a contender and compare.

        Raises:
            ValueError: it gives other shapes.
        """
        outputs, *gradients = self._differences(self._results(network, self._x, precision))
        return Errors(outputs, max_with_nan(gradients) if self._train else None)

    def _results(self, network: Network, x: Tensor, precision: str) -> list[Tensor]:
        """y, and in training the gradients of x and of all weights."""
        if not self._train:
            with torch.inference_mode(), autocast(precision, self._kind):
                return [network.forward(x)]
        x = x.clone().requires_grad_()
        with autocast(precision, self._kind):
            y = network.forward(x)
        return [y.detach(), *torch.autograd.grad(y, [x, *network.weights], self._dy.to(y.dtype))]

    def _differences(self, got: Sequence[Tensor]) -> list[float]:
        shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (got, self._expected)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"results of shapes {shapes[0]}, expected {shapes[1]}")
        return [relative_rms(one, other) for one, other in zip(got, self._expected, strict=True)]


def max_with_nan(values: Sequence[float]) -> float:
    """The largest, or NaN if any is: Python's own would depend on their order."""
    return float(torch.tensor(values, dtype=torch.float64).max())
