"""How far apart input and output are in the graph of a network (Chang et al. 2017, section 3)."""

from typing import List, Optional, Tuple

import torch
from torch import Tensor

from streamdrnn.checks import check_positive
from streamdrnn.memory.graph import DependencyGraph


def recurrent_lengths(graph: DependencyGraph, span: int) -> Tensor:
    """d(n) for n = 0 to ``span``: the edges on the shortest path from the input at time t to the output at t + n.

    Args:
        span: the longest lag n, in steps.

    Returns:
        ``(span + 1,)`` float64; infinity where there is no path.

    Raises:
        ValueError: ``span`` is negative.
    """
    if span < 0:
        raise ValueError(f"span: expected 0 or more, got {span}")
    return _lengths_to_nodes(graph, span)[graph.output]


def mean_recurrent_length(graph: DependencyGraph, period: Optional[int] = None) -> float:
    """The mean of d(n) over n = 1 to m (Chang et al. 2017, definition 3.2 and equation 5).

    The smaller it is, the easier it is to remember over all of these lags.

    Args:
        period: m; None is the graph's own. To compare networks give all of them the same.

    Returns:
        the mean; infinity if some lag up to m is never seen.

    Raises:
        ValueError, TypeError: ``period`` is no positive int.
    """
    m = check_positive("period", graph.period if period is None else period)
    return float(recurrent_lengths(graph, m)[1:].mean())


def shortest_path(graph: DependencyGraph, lag: int) -> List[Tuple[int, int]]:
    """One of the shortest paths over ``lag`` steps, from the output back to the input.

    Returns:
        what it passes, as (node, steps before the output).

    Raises:
        ValueError: there is none.
    """
    lengths = _lengths_to_nodes(graph, lag)
    node, left = graph.output, lag
    if not lengths[node][left].isfinite():
        raise ValueError(f"lag: no path of this network spans {lag} steps")
    path = [(node, 0)]
    while (node, left) != (graph.entry, 0):
        length = lengths[node][left] - 1
        node, left = next(
            (edge.source, left - edge.delay)
            for edge in graph.edges
            if edge.target == node and edge.delay <= left and lengths[edge.source][left - edge.delay] == length
        )
        path.append((node, lag - left))
    return path


def receptive_field(graph: DependencyGraph) -> Optional[int]:
    """The input steps, the present one included, that an output can depend on; None is without bound."""
    recurs = any(graph.recurrences(node) for node in range(len(graph.nodes)))
    return None if recurs else one_hop_field(graph)


def one_hop_field(graph: DependencyGraph) -> int:
    """The input steps, the present one included, that are seen through at most one recurrence per layer.

    It is the receptive field of the convolutional network with the same dilations, whose memory ends there
    (section 3.3), and how far a recurrent one sees with short paths.
    """
    furthest: List[int] = []
    for node in range(len(graph.nodes)):
        below = max((furthest[edge.source] + edge.delay for edge in graph.into(node)), default=0)
        furthest.append(below + max(graph.recurrences(node), default=0))
    return 1 + furthest[graph.output]


def _lengths_to_nodes(graph: DependencyGraph, span: int) -> List[Tensor]:
    """Per node the shortest path's edges from the entry, by lag.

    A layer's own recurrences may be taken in any order without changing where a path ends, so each is closed by
    itself, over all lags at once.
    """
    lengths: List[Tensor] = []
    for node in range(len(graph.nodes)):
        shortest = torch.full((span + 1,), torch.inf, dtype=torch.float64, device="cpu")
        if node == graph.entry:
            shortest[0] = 0
        for edge in graph.into(node):
            if edge.delay <= span:
                later = shortest[edge.delay :]
                torch.minimum(later, lengths[edge.source][: span + 1 - edge.delay] + 1, out=later)
        for delay in graph.recurrences(node):
            shortest = _with_recurrence(shortest, delay)
        lengths.append(shortest)
    return lengths


def _with_recurrence(lengths: Tensor, delay: int) -> Tensor:
    """``min_k lengths[n - k delay] + k``: the edge may be taken any number of times."""
    count = lengths.shape[0]
    hops = -(-count // delay)
    # One row per hop: down a column lags grow by the delay, and but for the hops' cost the best is a running minimum.
    rows = torch.nn.functional.pad(lengths, (0, hops * delay - count)).view(hops, delay)
    cost = torch.arange(hops, dtype=lengths.dtype, device=lengths.device)[:, None]
    return (torch.cummin(rows - cost, dim=0).values + cost).flatten()[:count]
