"""The dependency graphs of this package's models."""

from functools import singledispatch

from torch import nn

from streamdrnn.baselines import LRU, DilatedCNN, MinGRU, SkipRNN
from streamdrnn.dilated_rnn import DilatedRNN
from streamdrnn.heads import Head
from streamdrnn.memory.graph import DependencyGraph, Edge, Node


@singledispatch
def graph_of(model: nn.Module) -> DependencyGraph:
    """The dependency graph of a network; of a head, that of the network below it.

    Args:
        model: a :class:`DilatedRNN`, one of :mod:`streamdrnn.baselines`, a head over one, or a network of your own kind
            whose graph was registered with ``graph_of.register``.

    Raises:
        TypeError: it is none of these.
    """
    kinds = ", ".join(kind.__name__ for kind in graph_of.registry if kind is not object)
    raise TypeError(f"model: expected one of {kinds}, got {type(model).__name__}")


@graph_of.register
def _of_head(model: Head) -> DependencyGraph:
    return graph_of(model.rnn)


@graph_of.register
def _of_dilated_rnn(model: DilatedRNN) -> DependencyGraph:
    delays, fused = [[d] for d in model.dilations], model.dilations[0] if model.fuse else 0
    return DependencyGraph.recurrent(delays, model.input_size, model.hidden_sizes, model.cell, model.bias, fused)


@graph_of.register
def _of_skip_rnn(model: SkipRNN) -> DependencyGraph:
    delays = [[1, skip] for skip in model.skips]
    return DependencyGraph.recurrent(delays, model.input_size, model.hidden_size, model.cell, model.bias)


@graph_of.register
def _of_dilated_cnn(model: DilatedCNN) -> DependencyGraph:
    return DependencyGraph.convolutional(
        model.dilations, model.kernel_size, model.input_size, model.hidden_size, model.gated, model.bias
    )


@graph_of.register
def _of_min_gru(model: MinGRU) -> DependencyGraph:
    return _of_states_alone("min-gru", model.num_layers, model.input_size, model.hidden_size)


@graph_of.register
def _of_lru(model: LRU) -> DependencyGraph:
    return _of_states_alone("lru", model.num_layers, model.input_size, model.hidden_size)


def _of_states_alone(kind: str, layers: int, input_size: int, hidden_size: int) -> DependencyGraph:
    """Layers in which every number of the state reads itself of one step ago."""
    nodes = (Node("input", input_size), *[Node(kind, hidden_size)] * layers)
    edges = [edge for layer in range(1, layers + 1) for edge in (Edge(layer - 1, layer, 0), Edge(layer, layer, 1))]
    return DependencyGraph(nodes, tuple(edges), entry=1)
