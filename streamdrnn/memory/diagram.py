"""The unrolled graph of a network, as text."""

from typing import List

from streamdrnn.checks import check_positive
from streamdrnn.memory.graph import DependencyGraph


def dependencies(graph: DependencyGraph, steps: int) -> List[List[bool]]:
    """The nodes that the output at time t depends on.

    Returns:
        per node, for each lag below ``steps``, whether the output depends on the node at that time.
    """
    seen = [[False] * steps for _ in graph.nodes]
    seen[graph.output][0] = True
    for node in range(graph.output, -1, -1):
        for delay in graph.recurrences(node):
            for lag in range(delay, steps):
                seen[node][lag] |= seen[node][lag - delay]
        for edge in graph.into(node):
            for lag in range(edge.delay, steps):
                seen[edge.source][lag] |= seen[node][lag - edge.delay]
    return seen


def layer_name(graph: DependencyGraph, node: int) -> str:
    """The kind of a node and how far back it reads, such as ``gru d=4``."""
    delays = graph.recurrences(node) or [edge.delay for edge in graph.into(node) if edge.delay]
    shown = f"{delays[0]}..{delays[-1]}" if len(delays) > 3 else ",".join(map(str, delays))
    return graph.nodes[node].label + (f" d={shown}" if delays else "")


def diagram(graph: DependencyGraph, steps: int = 32) -> str:
    """The last steps of the unrolled graph, a line per layer, in plain ASCII.

    ``o`` is what the output at time t depends on, ``.`` what it does not; dashes are recurrences, ``<`` those from
    before the window.

    Args:
        steps: how many are drawn, two columns each.

    Raises:
        ValueError, TypeError: ``steps`` is no positive int.
    """
    seen = dependencies(graph, check_positive("steps", steps))
    names = [layer_name(graph, node) for node in range(len(graph.nodes))]
    width = max(map(len, names))
    lines = [
        f"{names[node]:<{width}}  {_line(seen[node], graph.recurrences(node))}" for node in range(graph.output, -1, -1)
    ]
    room = 2 * steps - 2
    oldest = f"t-{steps - 1}"
    oldest = oldest if len(oldest) < room else ""
    return "\n".join([*lines, " " * (width + 2) + f"{oldest:<{room}}t"])


def _line(seen: List[bool], recurrences: List[int]) -> str:
    """One layer. Its shortest recurrence is dashed if what it links is one chain, so that no two dashes cross."""
    steps = len(seen)
    marks = [" "] * (2 * steps - 1)
    lags = [lag for lag, depends in enumerate(seen) if depends]
    delay = min(recurrences, default=0)
    if delay and all(lag % delay == 0 for lag in lags):
        marks = ["-"] * (2 * (steps - 1 - lags[0]) + 1)
        marks[0] = "<"
    else:
        marks[::2] = ["."] * steps
    for lag in lags:
        marks[2 * (steps - 1 - lag)] = "o"
    return "".join(marks)
