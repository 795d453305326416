"""What contenders compute: passes over sequences, steps of live streams, and streamed audio.

Each job has weights and inputs of its own and knows what float64 makes of them, computed once for all contenders.
"""

from collections.abc import Sequence
from itertools import cycle
from typing import Optional

import torch
from torch import Tensor

from streamdrnn import DilatedRNN, StreamingDRNN
from streamdrnn.apps.bench.agreement import Errors, errors_of
from streamdrnn.apps.bench.choices import Precision
from streamdrnn.apps.bench.comparison import Contender
from streamdrnn.apps.bench.contenders import PUSHED, SEQUENCES, STEPPED, STEPS, LiveStep, Network, of_model, torch_twin
from streamdrnn.apps.bench.precision import autocast
from streamdrnn.apps.bench.target import Target
from streamdrnn.apps.bench.timing import Run
from streamdrnn.apps.bench.workloads import Case, Workload

CHECKED_STATES = 2**28
"""States (of all units, layers, steps and sequences) that are checked: float64 needs some 80 bytes for each. Of a
larger batch the first sequences are compared."""
CHECKED_STEPS = 10_000
"""Steps that are checked: float64 takes minutes for a million. Of a longer sequence the beginning is compared."""
CHECKED_STREAMS = 128
MOST_INPUTS = 16
"""Input sets that passes take in turn, so that none finds its own in the cache; fewer if fewer are twice what the cache
holds. Those of a narrow input fit all the same: they are then a hundredth of what a pass moves."""


class Passes:
    """Passes over whole sequences: forward in inference mode, or training steps.

    Attributes:
        model, inputs: the network, and what timed passes take round and round.
    """

    def __init__(self, target: Target, case: Case) -> None:
        workload, _, self._train = case
        self._kind = target.kind
        self.model = new_model(target, case)
        self.inputs = input_sets(target, workload)
        sequences = max(1, CHECKED_STATES // (workload.steps * workload.hidden * workload.layers))
        self._x = workload.input(target.device)[:CHECKED_STEPS, :sequences].contiguous()
        self._dy = torch.randn(*self._x.shape[:2], workload.hidden, device=target.device)
        exact = of_model(torch_twin(self.model, torch.float64))
        self._expected = self._results(exact, self._x.double(), "ieee")

    def contender(self, name: str, precision: Precision) -> Contender:
        network = SEQUENCES[name](self.model, precision)
        run = passes(network, self.inputs, precision, self._kind, self._train)
        return Contender(lambda: self.errors(network, precision), run)

    def errors(self, network: Network, precision: Precision) -> Errors:
        """Run a network and compare.

        Raises:
            ValueError: it gives other shapes.
        """
        return errors_of(self._results(network, self._x, precision), self._expected)

    def _results(self, network: Network, x: Tensor, precision: Precision) -> list[Tensor]:
        """y, and in training the gradients of x and of all weights."""
        if not self._train:
            with torch.inference_mode(), autocast(precision, self._kind):
                return [network.forward(x)]
        x = x.clone().requires_grad_()
        with autocast(precision, self._kind):
            y = network.forward(x)
        return [y.detach(), *torch.autograd.grad(y, [x, *network.weights], self._dy.to(y.dtype))]


class Steps:
    """Single steps of ``case.workload.batch`` live streams.

    Args:
        frames: inputs that timed steps take round and round; as many as are checked, unless they are given.
    """

    def __init__(self, target: Target, case: Case, frames: Optional[int] = None) -> None:
        workload, _, _ = case
        self._streams, self._frames = workload.batch, frames
        self._model = new_model(target, case)
        steps = 2 * max(workload.dilations) + 1  # each ring goes round twice
        self._x = workload._replace(steps=steps).input(target.device)
        few = min(CHECKED_STREAMS, self._streams)
        self._sample = torch.linspace(0, self._streams - 1, few, device=target.device).long()
        with torch.inference_mode():
            self._expected, _ = torch_twin(self._model, torch.float64)(self._x[:, self._sample].double())

    def contender(self, name: str, precision: Precision) -> Contender:
        step = STEPS[name](self._model, self._streams)
        return Contender(lambda: self._errors(step), next_step(step, self._x[: self._frames]))

    def _errors(self, step: LiveStep) -> Errors:
        # Indexing copies: a step may write its next output to the same memory.
        return errors_of([torch.stack([step(x_t)[self._sample] for x_t in self._x])], [self._expected])


class Audio:
    """One stream of samples, in chunks and one by one.

    Args:
        chunk: samples at once.
    """

    def __init__(self, target: Target, case: Case, chunk: int) -> None:
        self._model = new_model(target, case)
        x = case.workload.input(target.device)
        self._pieces = {PUSHED: list(x.split(chunk)), STEPPED: list(x.unbind())}
        with torch.inference_mode():
            self._expected, _ = torch_twin(self._model, torch.float64)(x.double())

    def contender(self, name: str, precision: Precision) -> Contender:
        stream, pieces = StreamingDRNN(self._model), self._pieces[name]
        advance = stream.push if name == PUSHED else stream.step

        def run() -> None:
            for piece in pieces:
                advance(piece)

        def errors() -> Errors:
            outputs = torch.cat([advance(piece).view(-1, *self._expected.shape[1:]) for piece in pieces])
            return errors_of([outputs], [self._expected])

        return Contender(errors, run)


def new_model(target: Target, case: Case) -> DilatedRNN:
    """The case's network on the target."""
    model = case.workload.model(case.cell, target.backend)
    return model.to(target.device).train(case.train)


def input_sets(target: Target, workload: Workload) -> list[Tensor]:
    """Random inputs ``(T, B, I)``, see :data:`MOST_INPUTS`."""
    first = workload.input(target.device)
    enough = max(1, -(-2 * target.cache_bytes // first.nbytes))
    return [first, *(workload.input(target.device) for _ in range(min(MOST_INPUTS, enough) - 1))]


def passes(network: Network, xs: Sequence[Tensor], precision: Precision, kind: str, train: bool) -> Run:
    """A call that makes one pass, with the next of some inputs.

    Args:
        kind: of device, for autocast.
        train: also the gradients of the sum of the squared outputs with respect to the weights.
    """
    inputs = cycle(xs)

    def forward() -> Tensor:
        with autocast(precision, kind):
            return network.forward(next(inputs))

    def training_step() -> None:
        for weight in network.weights:
            weight.grad = None
        forward().square().sum().backward()

    return training_step if train else forward


def next_step(step: LiveStep, x: Tensor) -> Run:
    """A call that makes the next step, of x ``(T, B, I)`` round and round: what it costs does not depend on x."""
    frames = list(x.unbind())
    at = 0

    def run() -> Tensor:
        nonlocal at
        at = (at + 1) % len(frames)
        return step(frames[at])

    return run
