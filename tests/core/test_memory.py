"""Recurrent lengths, parameters and gradients, against searches of the unrolled graph and the paper's closed forms."""

import itertools
import math
from collections import deque
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from streamdrnn import Classifier, DilatedRNN, Tagger
from streamdrnn.baselines import DilatedCNN, SkipRNN, stacked_rnn
from streamdrnn.memory import (
    DependencyGraph,
    Edge,
    Node,
    dependencies,
    diagram,
    gradient_norms,
    graph_of,
    mean_recurrent_length,
    one_hop_field,
    receptive_field,
    recurrent_lengths,
    shortest_path,
)
from tests.strategies import CELLS, examples, randn

recurrent_graphs = st.builds(
    DependencyGraph.recurrent,
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=2), min_size=1, max_size=4),
    fused=st.integers(0, 4),
)
convolutional_graphs = st.builds(
    DependencyGraph.convolutional, st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(2, 4)
)
graphs = st.one_of(recurrent_graphs, convolutional_graphs)


def dilated(dilations: Sequence[int]) -> DependencyGraph:
    return DependencyGraph.recurrent([[d] for d in dilations])


def searched(graph: DependencyGraph, span: int) -> list[float]:
    """d(n) by breadth-first search of the unrolled graph, one time step and one node at a time."""
    distance = {(graph.entry, 0): 0}
    queue = deque(distance)
    while queue:
        node, t = queue.popleft()
        for edge in graph.edges:
            reached = (edge.target, t + edge.delay)
            if edge.source == node and reached[1] <= span and reached not in distance:
                distance[reached] = distance[node, t] + 1
                queue.append(reached)
    return [distance.get((graph.output, n), math.inf) for n in range(span + 1)]


@examples(60)
@given(graphs, st.integers(0, 40))
def test_recurrent_lengths_are_those_of_a_search(graph: DependencyGraph, span: int) -> None:
    assert recurrent_lengths(graph, span).tolist() == searched(graph, span)


@examples(40)
@given(graphs, st.integers(0, 40))
def test_shortest_paths_are_paths_and_as_short(graph: DependencyGraph, lag: int) -> None:
    length = recurrent_lengths(graph, lag)[lag]
    if not length.isfinite():
        with pytest.raises(ValueError, match=f"no path of this network spans {lag} steps"):
            shortest_path(graph, lag)
        return
    path = shortest_path(graph, lag)
    assert path[0] == (graph.output, 0)
    assert path[-1] == (graph.entry, lag)
    assert len(path) - 1 == length
    for (above, later), (below, earlier) in itertools.pairwise(path):
        assert Edge(below, above, earlier - later) in graph.edges


@examples(40)
@given(graphs)
def test_the_receptive_field_ends_at_the_last_lag_with_a_path(graph: DependencyGraph) -> None:
    field = receptive_field(graph)
    if field is None:
        assert graph.entry == 1
        return
    assert graph.entry == 0
    lengths = recurrent_lengths(graph, field + 10)
    assert lengths[field - 1].isfinite()
    assert lengths[field:].isinf().all()


@examples(40)
@given(graphs)
def test_one_hop_fields_end_at_the_furthest_lag_by_one_recurrence_per_layer(graph: DependencyGraph) -> None:
    lags = {graph.entry: {0}}
    for node in range(graph.entry, graph.output + 1):
        below = lags.get(node, set()) | {
            lag + edge.delay for edge in graph.into(node) for lag in lags.get(edge.source, ())
        }
        lags[node] = below | {lag + delay for lag in below for delay in graph.recurrences(node)}
    assert one_hop_field(graph) == 1 + max(lags[graph.output])


@pytest.mark.parametrize("L", range(1, 10))
@pytest.mark.parametrize("m", [1, 2, 7, 100])
def test_regular_stacks_have_a_length_that_grows_with_the_period(L: int, m: int) -> None:
    graph = dilated([1] * L)
    assert mean_recurrent_length(graph, m) == pytest.approx(L - 1 + (m + 1) / 2)
    assert graph.recurrent_edges_per_node() == 1


@pytest.mark.parametrize("L", [1, 2, 5])
@pytest.mark.parametrize("m", [2, 3, 10, 1000])
def test_a_single_skip_of_the_period_helps_at_the_period_only(L: int, m: int) -> None:
    """The paper's example of what d(m) alone does not show (section 3.1)."""
    graph = DependencyGraph.recurrent([[1, m]] * L)
    lengths = recurrent_lengths(graph, m) - (L - 1)
    assert lengths[1:m].tolist() == list(range(1, m))
    assert lengths[m] == 1
    assert mean_recurrent_length(graph) == pytest.approx(L - 1 + (m - 1) / 2 + 1 / m)
    assert graph.recurrent_edges_per_node() == 2


@pytest.mark.parametrize("L", range(1, 10))
@pytest.mark.parametrize("M", [2, 3, 4])
def test_dilated_stacks_have_a_length_that_grows_with_the_periods_logarithm(L: int, M: int) -> None:
    """Lags are written in base M: each digit is a number of hops, (M - 1) / 2 of them on average."""
    graph = dilated([M**layer for layer in range(L)])
    m = M ** (L - 1)
    assert graph.period == m
    assert mean_recurrent_length(graph) == pytest.approx((L - 1) * (M + 1) / 2 + 1 / m)
    assert graph.recurrent_edges_per_node() == 1
    assert one_hop_field(graph) == 1 + (M**L - 1) // (M - 1)
    assert receptive_field(graph) is None


@pytest.mark.parametrize(("M", "L"), [(2, 2), (2, 5), (2, 9), (3, 4), (4, 3)])
def test_skips_that_multiply_need_twice_the_recurrent_edges_for_the_same_lengths(M: int, L: int) -> None:
    delays = [M**layer for layer in range(L)]
    skips = DependencyGraph.recurrent([[1, delay] for delay in delays])
    assert torch.equal(recurrent_lengths(skips, M**L), recurrent_lengths(dilated(delays), M**L))
    assert skips.recurrent_edges_per_node() == 2


def chains(product: int, length: int) -> list[list[int]]:
    """All n_2, ..., n_d of this product."""
    if length == 0:
        return [[]] if product == 1 else []
    divisors = [n for n in range(1, product + 1) if product % n == 0]
    return [[n, *rest] for n in divisors for rest in chains(product // n, length - 1)]


@pytest.mark.parametrize(("M", "L"), [(2, 2), (2, 4), (2, 7), (3, 4), (4, 4), (6, 3), (12, 3)])
def test_no_other_chain_of_dilations_does_better(M: int, L: int) -> None:
    """Theorem 3.1: of dilations from 1 to M^(L-1), each a multiple of the one before, the powers of M are best."""
    best = mean_recurrent_length(dilated([M**layer for layer in range(L)]))
    for ratios in chains(M ** (L - 1), L - 1):
        dilations = list(itertools.accumulate(ratios, lambda s, n: s * n, initial=1))
        mean = mean_recurrent_length(dilated(dilations))
        assert mean == pytest.approx(L - 1 + sum(n - 1 for n in ratios) / 2 + 1 / dilations[-1])
        if set(ratios) == {M}:
            assert mean == pytest.approx(best)
        else:
            assert mean > best + 1e-9


@pytest.mark.parametrize("L", range(1, 10))
def test_convolutions_have_shorter_paths_and_then_none(L: int) -> None:
    """Section 3.3."""
    dilations = [2**layer for layer in range(L)]
    cnn, rnn = DependencyGraph.convolutional(dilations), dilated(dilations)
    assert cnn.recurrent_edges_per_node() == rnn.recurrent_edges_per_node() == 1
    assert mean_recurrent_length(cnn) == L <= mean_recurrent_length(rnn)
    assert receptive_field(cnn) == one_hop_field(cnn) == one_hop_field(rnn) == 2**L
    assert math.isinf(mean_recurrent_length(cnn, 2**L))
    assert math.isfinite(mean_recurrent_length(rnn, 2**L))


def test_phases_that_never_meet_have_an_infinite_length_until_they_are_fused() -> None:
    apart = DependencyGraph.recurrent([[2], [4]])
    assert recurrent_lengths(apart, 4).tolist() == [1, math.inf, 2, math.inf, 2]
    assert math.isinf(mean_recurrent_length(apart))
    joined = DependencyGraph.recurrent([[2], [4]], fused=2)
    assert recurrent_lengths(joined, 4).tolist() == [2, 2, 3, 3, 3]


def test_large_periods_take_no_time() -> None:
    L = 18
    mean = mean_recurrent_length(dilated([2**layer for layer in range(L)]))
    assert mean == pytest.approx(1.5 * (L - 1) + 2.0 ** (1 - L))


MODELS: dict[str, nn.Module] = {
    **{
        f"{kind} {cell} {bias}": model
        for cell in CELLS
        for bias in (True, False)
        for kind, model in {
            "dilated": DilatedRNN(3, [4, 5, 6], dilations=[1, 3, 2], cell=cell, bias=bias),
            "fused": DilatedRNN(3, [4, 5], dilations=[3, 6], cell=cell, bias=bias),
            "regular": stacked_rnn(3, 4, 2, cell, bias=bias),
            "skip": SkipRNN(3, 4, skips=[1, 4], cell=cell, bias=bias),
        }.items()
    },
    **{
        f"cnn {kernel_size} {gated}": DilatedCNN(3, 4, 3, kernel_size=kernel_size, gated=gated, bias=gated)
        for kernel_size in (2, 3)
        for gated in (True, False)
    },
    "residual cnn": DilatedCNN(3, 4, 3, residual=True),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_the_graph_of_a_model_has_its_parameters(model: nn.Module) -> None:
    assert graph_of(model).parameter_count() == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_the_graph_of_a_model_knows_what_its_outputs_depend_on(model: nn.Module) -> None:
    """A path over n steps means a gradient over n steps, and no path none."""
    T = 16
    for seed, parameter in enumerate(model.parameters()):
        parameter.data = randn(*parameter.shape, seed=seed, dtype=torch.float32) / 2
    # Many streams, as a relu may be closed to each of a few.
    norms = gradient_norms(model, randn(T, 50, 3, seed=1, dtype=torch.float32))
    graph = graph_of(model)
    assert (norms > 0).tolist() == recurrent_lengths(graph, T - 1).isfinite().tolist()
    assert (norms > 0).tolist() == dependencies(graph, T)[0]


def test_the_papers_counts_of_parameters() -> None:
    """Of the networks for MNIST with H = 50, and their 10 x 50 + 10 outputs: 44k and 46k in table 2."""
    rnn = DependencyGraph.recurrent([[2**layer] for layer in range(9)], 1, 50)
    assert round((rnn.parameter_count() + 510) / 1000) == 44
    cnn = DependencyGraph.convolutional([2**layer for layer in range(10)], 2, 1, 50)
    assert round((cnn.parameter_count() + 510) / 1000) == 46


def test_the_graph_of_a_head_is_that_of_its_network() -> None:
    rnn = DilatedRNN(3, 4, 3)
    assert graph_of(Tagger(rnn, 2)) == graph_of(Classifier(rnn, 2)) == graph_of(rnn)


def test_gradient_norms_are_exact_for_one_output() -> None:
    model = Tagger(DilatedRNN(3, 4, 3, backend="torch"), 1).double()
    x = randn(9, 1, 3, seed=1)
    (jacobian,) = torch.autograd.functional.jacobian(lambda x: model(x)[0][-1, 0], (x,))
    want = jacobian[0, :, 0].norm(dim=1).flip(0)
    for seed in range(3):
        assert torch.allclose(gradient_norms(model, x, seed), want, rtol=1e-12)


def test_gradient_norms_are_frobenius_norms_on_average() -> None:
    model = DilatedRNN(3, 4, 3, backend="torch").double()
    x = randn(9, 1, 3, seed=1)
    (jacobian,) = torch.autograd.functional.jacobian(lambda x: model(x)[0][-1, 0], (x,))
    want = jacobian[:, :, 0].square().sum(dim=(0, 2)).sqrt().flip(0)
    got = gradient_norms(model, x.expand(9, 4000, 3))
    assert torch.allclose(got, want, rtol=0.05)
    assert not torch.equal(gradient_norms(model, x, seed=1), gradient_norms(model, x, seed=2))


def test_gradient_norms_leave_the_model_and_the_input_alone() -> None:
    model, x = DilatedRNN(3, 4, 2), torch.randn(5, 2, 3)
    with torch.no_grad():
        norms = gradient_norms(model, x)
    assert norms.shape == (5,)
    assert norms.dtype == torch.float64
    assert not x.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("x", [torch.zeros(0, 2, 3), torch.zeros(4, 0, 3), torch.zeros(4, 3)])
def test_gradient_norms_need_a_step_and_a_stream(x: Tensor) -> None:
    with pytest.raises(ValueError, match="x: expected"):
        gradient_norms(DilatedRNN(3, 4, 2), x)


def test_the_diagram_shows_what_the_output_depends_on() -> None:
    assert diagram(dilated([1, 2, 4]), 7).splitlines() == [
        "rnn d=4  <---o-------o",
        "rnn d=2  o---o---o---o",
        "rnn d=1  o-o-o-o-o-o-o",
        "input    o o o o o o o",
        "         t-6         t",
    ]
    assert diagram(DependencyGraph.recurrent([[2], [4]], fused=2), 6).splitlines() == [
        "fusion d=1  . . . . . o",
        "rnn d=4     o o . . o o",
        "rnn d=2     o o o o o o",
        "input       o o o o o o",
        "            t-5       t",
    ]
    assert diagram(DependencyGraph.convolutional([1, 2]), 5).splitlines() == [
        "conv d=2  . . . . o",
        "conv d=1  . . o . o",
        "input     . o o o o",
        "          t-4     t",
    ]


def test_a_wide_fusion_is_named_by_its_ends() -> None:
    assert diagram(graph_of(DilatedRNN(1, 2, dilations=[8, 16])), 3).startswith("fusion d=1..7  ")


@examples(30)
@given(graphs, st.integers(1, 20))
def test_the_diagram_has_a_line_per_layer(graph: DependencyGraph, steps: int) -> None:
    lines = diagram(graph, steps).splitlines()
    assert len(lines) == len(graph.nodes) + 1
    assert len({len(line) for line in lines}) == 1
    for line, seen in zip(lines, reversed(dependencies(graph, steps)), strict=False):
        drawn = line[-(2 * steps - 1) :: 2]
        assert [mark == "o" for mark in drawn] == seen[::-1]


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([Edge(1, 0, 1)], "does not lead up"),
        ([Edge(0, 2, 1)], "does not lead up"),
        ([Edge(1, 1, 0)], "not computed yet"),
        ([Edge(0, 1, -1)], "not computed yet"),
    ],
)
def test_impossible_graphs_are_refused(edges: list[Edge], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DependencyGraph((Node("input"), Node("rnn")), tuple(edges), entry=1)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="entry: got 2"):
        DependencyGraph((Node("input"), Node("rnn")), (Edge(0, 1, 0),), entry=2)
    with pytest.raises(ValueError, match="cell: got 'lru'"):
        DependencyGraph.recurrent([[1]], cell="lru")
    with pytest.raises(ValueError, match="delays: expected 1 or more, got 0"):
        DependencyGraph.recurrent([[0]])
    with pytest.raises(ValueError, match="delays: got 2 layers with 1 hidden sizes"):
        DependencyGraph.recurrent([[1], [1]], hidden_sizes=[3])
    with pytest.raises(ValueError, match="delays: got 0 layers"):
        DependencyGraph.recurrent([])
    with pytest.raises(ValueError, match="dilations: expected one or more"):
        DependencyGraph.convolutional([])
    with pytest.raises(ValueError, match="span: expected 0 or more, got -1"):
        recurrent_lengths(dilated([1]), -1)
    with pytest.raises(ValueError, match="period: expected 1 or more, got 0"):
        mean_recurrent_length(dilated([1]), 0)
    with pytest.raises(
        TypeError, match="expected one of Head, DilatedRNN, SkipRNN, DilatedCNN, MinGRU, LRU, got Linear"
    ):
        graph_of(nn.Linear(2, 2))
