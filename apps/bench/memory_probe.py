"""One training step in a process of its own, which prints the memory that the step takes at its peak, in bytes."""

import gc
import sys

import torch

from streamdrnn.apps.bench.agreement import check_same
from streamdrnn.apps.bench.contenders import SEQUENCES
from streamdrnn.apps.bench.jobs import passes
from streamdrnn.apps.bench.process_usage import forget_peak, peak_bytes, resident_bytes
from streamdrnn.apps.bench.workloads import Workload


def step_bytes(workload: Workload, cell: str, who: str) -> int:
    """The memory that a training step needs beyond the weights and the input.

    Args:
        who: a contender's name.

    Raises:
        ValueError: it computes something else than ours.
    """
    torch.manual_seed(0)
    model = workload.model(cell)
    x = workload.input()
    network = SEQUENCES[who](model, "ieee")
    first = x[:2, :1]
    check_same(who, "output", network.forward(first), model(first)[0])
    passes(network, [first], "ieee", "cpu", train=True)()  # loads what is loaded once
    for weight in network.weights:
        weight.grad = None
    gc.collect()
    forget_peak()
    before = resident_bytes()
    passes(network, [x], "ieee", "cpu", train=True)()
    return peak_bytes() - before


if __name__ == "__main__":
    cell, who = sys.argv[1:3]
    batch, steps, inputs, hidden, layers = map(int, sys.argv[3:])
    print(step_bytes(Workload("probe", batch, steps, inputs, hidden, layers), cell, who))
