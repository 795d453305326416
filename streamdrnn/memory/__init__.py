"""The memory of recurrent architectures (Chang et al. 2017, section 3): graphs, recurrent lengths, gradients."""

from streamdrnn.memory.architectures import graph_of
from streamdrnn.memory.diagram import dependencies, diagram, layer_name
from streamdrnn.memory.gradients import gradient_norms
from streamdrnn.memory.graph import DependencyGraph, Edge, Node
from streamdrnn.memory.recurrent_length import (
    mean_recurrent_length,
    one_hop_field,
    receptive_field,
    recurrent_lengths,
    shortest_path,
)

__all__ = [
    "DependencyGraph",
    "Edge",
    "Node",
    "dependencies",
    "diagram",
    "gradient_norms",
    "graph_of",
    "layer_name",
    "mean_recurrent_length",
    "one_hop_field",
    "receptive_field",
    "recurrent_lengths",
    "shortest_path",
]
