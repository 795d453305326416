"""Architectures as graphs of what depends on what, across layers and time.

After Zhang et al., "Architectural Complexity Measures of Recurrent Neural Networks", NIPS 2016, and Chang et al.
2017, section 3.1: the cyclic graph of a network is a directed multigraph with an edge (u, v, sigma) where node v at
time t reads node u at time t - sigma. Unrolled over time it is the graph of the computation. The networks here are
the same at every time step, so nodes need no time index, and the paper's maximum over the time of the input is one over
equal values.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from streamdrnn.checks import check_positive
from streamdrnn.kernels import cell_named


@dataclass(frozen=True)
class Node:
    """The computation of one layer at each step.

    Attributes:
        label: its kind, for drawings.
        width: features per step.
        gates: rows of its matrices per feature.
        biases: bias vectors, each with ``gates * width`` entries.
    """

    label: str
    width: int = 1
    gates: int = 1
    biases: int = 0


@dataclass(frozen=True)
class Edge:
    """Node ``target`` at time t reads node ``source`` at time ``t - delay``, through a matrix of its own."""

    source: int
    target: int
    delay: int


@dataclass(frozen=True)
class DependencyGraph:
    """The cyclic graph of a network (Chang et al. 2017, definition 3.1).

    Attributes:
        nodes: the input, then the layers from the bottom up; the last is the output.
        edges: none leads down.
        entry: the node where paths begin. Recurrent networks: the bottom layer, which reads its input in the same step,
            so that a single layer with a skip of m has a path of length 1 over m steps, as in the paper's
            example. Convolutional ones: the input, which the bottom layer reads across time.

    Raises:
        ValueError: an edge leads down, leads nowhere, or reads the future or its own present.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    entry: int

    def __post_init__(self) -> None:
        for edge in self.edges:
            if not 0 <= edge.source <= edge.target < len(self.nodes):
                raise ValueError(f"edges: {edge} does not lead up from one of the {len(self.nodes)} nodes")
            if edge.delay < 0 or (edge.delay == 0 and edge.source == edge.target):
                raise ValueError(f"edges: {edge} reads what is not computed yet")
        if not 0 <= self.entry < len(self.nodes):
            raise ValueError(f"entry: got {self.entry}, expected a node from 0 to {len(self.nodes) - 1}")

    @classmethod
    def recurrent(
        cls,
        delays: Sequence[Sequence[int]],
        input_size: int = 1,
        hidden_sizes: int | Sequence[int] = 1,
        cell: str = "rnn",
        bias: bool = True,
        fused: int = 0,
    ) -> Self:
        """A stack of recurrent layers.

        Args:
            delays: per layer how many steps ago the states are that it reads: ``[1]`` in a regular layer, ``[d]`` in a
                dilated one (equation 1), ``[1, s]`` with a regular skip (equation 2).
            hidden_sizes: H, one int for all layers or one per layer.
            cell: the name of one of :data:`streamdrnn.kernels.CELLS`.
            fused: how many of the last top outputs a fusion joins (section 2.2); 0 is no fusion.

        Raises:
            ValueError, TypeError: a delay or size is no positive int, or the cell is unknown.
        """
        gates = cell_named(cell).gates
        sizes = [hidden_sizes] * len(delays) if isinstance(hidden_sizes, int) else list(hidden_sizes)
        if not delays or len(sizes) != len(delays):
            raise ValueError(f"delays: got {len(delays)} layers with {len(sizes)} hidden sizes, expected as many")
        nodes = [Node("input", check_positive("input_size", input_size))]
        nodes += [Node(cell, check_positive("hidden_sizes", H), gates, 2 if bias else 0) for H in sizes]
        edges = []
        for layer, own in enumerate(delays, 1):
            edges.append(Edge(layer - 1, layer, 0))
            edges += [Edge(layer, layer, check_positive("delays", delay)) for delay in own]
        if fused:
            edges += [Edge(len(delays), len(delays) + 1, delay) for delay in range(fused)]
            nodes.append(Node("fusion", sizes[-1], 1, 1 if bias else 0))
        return cls(tuple(nodes), tuple(edges), entry=1)

    @classmethod
    def convolutional(
        cls,
        dilations: Sequence[int],
        kernel_size: int = 2,
        input_size: int = 1,
        channels: int = 1,
        gated: bool = False,
        bias: bool = True,
    ) -> Self:
        """A stack of dilated causal convolutions (section 3.3); arguments as for :class:`DilatedCNN`.

        Raises:
            ValueError, TypeError: a dilation or size is no positive int, or there are no layers.
        """
        if not dilations:
            raise ValueError("dilations: expected one or more, got none")
        layer_node = Node("conv", check_positive("channels", channels), 2 if gated else 1, 1 if bias else 0)
        nodes = (Node("input", check_positive("input_size", input_size)), *[layer_node] * len(dilations))
        edges = tuple(
            Edge(layer - 1, layer, tap * check_positive("dilations", d))
            for layer, d in enumerate(dilations, 1)
            for tap in range(check_positive("kernel_size", kernel_size))
        )
        return cls(nodes, edges, entry=0)

    @property
    def output(self) -> int:
        """The node that paths lead to."""
        return len(self.nodes) - 1

    @property
    def period(self) -> int:
        """m, the longest delay: for dilations 1, M, ..., M^(L-1) the paper's period M^(L-1)."""
        return max((edge.delay for edge in self.edges), default=0) or 1

    def into(self, node: int) -> Iterator[Edge]:
        """The edges by which a node reads others, in its own step or before."""
        return (edge for edge in self.edges if edge.target == node and edge.source != node)

    def recurrences(self, node: int) -> list[int]:
        """The delays with which a node reads itself."""
        return [edge.delay for edge in self.edges if edge.target == node and edge.source == node]

    def parameter_count(self) -> int:
        """Weights and biases of the network: a matrix per edge, and each node's biases.

        Of :class:`streamdrnn.baselines.MinGRU` and ``LRU``, whose states read themselves without one, it is no count.
        """
        rows = [node.gates * node.width for node in self.nodes]
        matrices = sum(rows[edge.target] * self.nodes[edge.source].width for edge in self.edges)
        return matrices + sum(node.biases * count for node, count in zip(self.nodes, rows, strict=True))

    def recurrent_edges_per_node(self) -> float:
        """N_r, the edges across time per computed node (definition 3.3): 1 with dilations, 2 with regular skips."""
        return sum(edge.delay > 0 for edge in self.edges) / (len(self.nodes) - 1)
