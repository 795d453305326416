"""One training step in a process of its own, which prints the memory that the step takes at its peak, in bytes."""

import gc
import sys

import torch

from streamdrnn.apps.bench.agreement import check_same
from streamdrnn.apps.bench.forward_train import Network, training_step
from streamdrnn.apps.bench.peers import Reshape
from streamdrnn.apps.bench.process_usage import forget_peak, peak_bytes, resident_bytes
from streamdrnn.apps.bench.works import Work


def step_bytes(work: Work, cell: str, who: str) -> int:
    """The memory that a training step needs beyond the weights and the input.

    Args:
        who: ``"ours"`` or ``"reshape"``.

    Raises:
        ValueError: the peer computes something else.
    """
    torch.manual_seed(0)
    model = work.model(cell)
    x = work.input()
    network = Network(lambda x: model(x)[0], list(model.parameters()))
    first = x[:2, :1]
    if who == "reshape":
        reshape = Reshape(model)
        check_same(who, "output", reshape(first), model(first)[0])
        network = Network(reshape, list(reshape.parameters()))
    training_step(network, first)()  # loads what is loaded once
    for weight in network.weights:
        weight.grad = None
    gc.collect()
    forget_peak()
    before = resident_bytes()
    training_step(network, x)()
    return peak_bytes() - before


if __name__ == "__main__":
    cell, who = sys.argv[1:3]
    batch, steps, inputs, hidden, layers = map(int, sys.argv[3:])
    print(step_bytes(Work("probe", batch, steps, inputs, hidden, layers), cell, who))
