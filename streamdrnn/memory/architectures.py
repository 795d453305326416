"""The dependency graphs of this package's models."""

from torch import nn

from streamdrnn.baselines import DilatedCNN, SkipRNN
from streamdrnn.dilated_rnn import DilatedRNN
from streamdrnn.heads import Head
from streamdrnn.memory.graph import DependencyGraph


def graph_of(model: nn.Module) -> DependencyGraph:
    """The dependency graph of a network; of a head, that of the network below it.

    Args:
        model: a :class:`DilatedRNN`, :class:`SkipRNN`, :class:`DilatedCNN`, or a head over one.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(model, Head):
        return graph_of(model.rnn)
    if isinstance(model, DilatedRNN):
        return DependencyGraph.recurrent(
            [[d] for d in model.dilations],
            model.input_size,
            model.hidden_sizes,
            model.cell,
            model.bias,
            fused=model.dilations[0] if model.fuse else 0,
        )
    if isinstance(model, SkipRNN):
        delays = [[1, skip] for skip in model.skips]
        return DependencyGraph.recurrent(delays, model.input_size, model.hidden_size, model.cell, model.bias)
    if isinstance(model, DilatedCNN):
        return DependencyGraph.convolutional(
            model.dilations, model.kernel_size, model.input_size, model.hidden_size, model.gated, model.bias
        )
    raise TypeError(f"model: expected a network of this package or a head, got {type(model).__name__}")
