"""Suites ``forward`` and ``train``: whole sequences, against the reshape trick and loops over time."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import geometric_mean
from typing import NamedTuple

import torch
from torch import Tensor

from streamdrnn import DilatedRNN
from streamdrnn.apps.bench.agreement import check_all_same
from streamdrnn.apps.bench.machine import Peak
from streamdrnn.apps.bench.peers import CannotRunError, Loop, Reshape, StackStep, compiled, compiling, scripted
from streamdrnn.apps.bench.tables import Row, Say, Table
from streamdrnn.apps.bench.timing import Times, interleaved
from streamdrnn.apps.bench.works import Work

LOOP_ROUNDS = 3
"""Turns of the loops over time, each of which takes about a second."""
CHECKED_ROWS = 8192
"""Rows (time steps of all sequences) whose gradients are compared."""


class Network(NamedTuple):
    """One way to compute a sequence.

    Attributes:
        forward: ``(T, B, I)`` to ``(T, B, H)``.
        weights: its parameters, in the network's order.
    """

    forward: Callable[[Tensor], Tensor]
    weights: Sequence[Tensor]


class Comparison(NamedTuple):
    """Times by name, and why the others have none."""

    times: dict[str, Times]
    missing: dict[str, str]


def measure(
    works: Sequence[Work], cells: Sequence[str], train: bool, repeats: int, peak: Peak, say: Say
) -> list[Table]:
    """Time forward passes in inference mode, or training steps (forward, and backward to the weights).

    Returns:
        ours beside the reshape trick; the geometric means of their ratio; and the loops over time.
    """
    suite = "train" if train else "forward"
    rows: list[Row] = []
    loops: list[Row] = []
    for work in works:
        for cell in cells:
            say(f"{suite}: {work.name}, {cell}")
            times, missing = compare(work, cell, train, repeats)
            ours, reshape = times.pop("ours"), times.pop("reshape")
            gflops = work.flops(cell, train) / ours.percentile(50)
            rows.append(
                {
                    "work": work.name,
                    "cell": cell,
                    "ours_ms": ours.ms,
                    "ours_quartiles_ms": ours.quartiles_ms,
                    "reshape_ms": reshape.ms,
                    "reshape_quartiles_ms": reshape.quartiles_ms,
                    "ratio": reshape.ms / ours.ms,
                    "ours_gflop_per_s": gflops,
                    "ours_percent_of_peak": 100 * gflops / peak.gflops,
                }
            )
            for peer in [*times, *missing]:
                ms = times[peer].ms if peer in times else None
                loops.append(
                    {
                        "work": work.name,
                        "cell": cell,
                        "peer": peer,
                        "ms": ms,
                        "times_ours": None if ms is None else ms / ours.ms,
                        "why_not": missing.get(peer, ""),
                    }
                )
    what = "Training step (forward and backward)" if train else "Forward pass"
    sizes = "; ".join(f"{work.name} is {work}" for work in works)
    peak_note = f"The peak is {peak.gflops:.0f} GFLOP/s ({peak.source}). Operations are those of the matrix products."
    return [
        Table(
            suite,
            f"{what}: ours and the reshape trick",
            rows,
            (f"Medians of {repeats}. ratio: reshape / ours. {sizes}.", peak_note),
        ),
        Table(f"{suite}_means", f"{what}: how many times faster than the reshape trick", means(rows, works)),
        Table(
            f"{suite}_loops",
            f"{what}: loops over time",
            loops,
            (f"Medians of {min(repeats, LOOP_ROUNDS)}.",),
        ),
    ]


def means(rows: Sequence[Row], works: Sequence[Work]) -> list[Row]:
    """The geometric mean of the ratio over the cells, for each work."""
    ratios = {work.name: [float(str(row["ratio"])) for row in rows if row["work"] == work.name] for work in works}
    return [{"work": name, "geometric_mean_ratio": geometric_mean(of_cells)} for name, of_cells in ratios.items()]


def compare(work: Work, cell: str, train: bool, repeats: int) -> Comparison:
    """Check ours and its peers against each other, then time them in turns.

    Raises:
        ValueError: a peer computes something else.
    """
    torch.manual_seed(0)
    model = work.model(cell)
    x = work.input()
    networks = {"ours": Network(lambda x: model(x)[0], list(model.parameters()))} | peers(model, work.loops)
    missing = {}
    expected: list[Tensor] = []
    for name, network in list(networks.items()):
        try:
            with compiling():
                got = outputs_and_gradients(network, x) if train else outputs(network, x)
                if train:  # compiled once more, for the whole batch and an input that needs no gradient
                    training_step(network, x)()
                if expected:
                    check_all_same(name, "outputs and gradients, number", got, expected)
                expected = expected or got
        except CannotRunError as error:
            missing[name] = str(error)
            del networks[name]
    slow = {name: LOOP_ROUNDS for name in networks if name.startswith("loop")}
    if train:
        runs = {name: training_step(network, x) for name, network in networks.items()}
        return Comparison(interleaved(runs, repeats, at_most=slow), missing)
    with torch.inference_mode():
        return Comparison(interleaved(forward_passes(networks, x), repeats, at_most=slow), missing)


def peers(model: DilatedRNN, loops: bool) -> dict[str, Network]:
    """The peers of a network by name."""
    reshape = Reshape(model)
    found = {"reshape": Network(reshape, list(reshape.parameters()))}
    if loops:
        step = StackStep(model)
        weights = list(model.parameters())
        found["loop"] = Network(Loop(model, step), weights)
        found["loop TorchScript"] = Network(scripted(Loop(model, step)), weights)
        found["loop torch.compile"] = Network(Loop(model, compiled(StackStep(model))), weights)
    return found


def forward_passes(networks: Mapping[str, Network], x: Tensor) -> dict[str, Callable[[], object]]:
    """One forward pass of each."""
    return {name: partial(network.forward, x) for name, network in networks.items()}


def training_step(network: Network, x: Tensor) -> Callable[[], object]:
    """A forward pass, and the gradients of the sum of the squared outputs with respect to the weights."""

    def step() -> None:
        for weight in network.weights:
            weight.grad = None
        network.forward(x).square().sum().backward()

    return step


def outputs(network: Network, x: Tensor) -> list[Tensor]:
    """The outputs in inference mode."""
    with torch.inference_mode():
        return [network.forward(x)]


def outputs_and_gradients(network: Network, x: Tensor) -> list[Tensor]:
    """The outputs, and the gradients of x and of all weights, for the first sequences of the batch.

    The gradient of a weight is a sum over all rows. torch's LSTM adds up those of its biases one by one in float32,
    and after 100 000 rows their rounding alone is 3e-4: more than two computations of the same thing may differ by.
    """
    few = max(1, CHECKED_ROWS // len(x))
    x = x[:, :few].clone().requires_grad_()
    y = network.forward(x)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), [x, *network.weights])]
