"""The weights that training starts from."""

import math
from typing import Optional

import torch
from torch import nn

from streamdrnn.kernels import CELLS

CANDIDATE, KEEP = {"rnn": 0, "gru": 2, "lstm": 2}, {"gru": 1, "lstm": 1}
"""Gates by their places in torch's order; a GRU's update gate keeps the state, as an LSTM's forget gate does."""
MOST_KEEP_BIAS = 10
"""With more, gates are shut to the last bits of float32, and nothing is learned."""
KEEP_BIAS = {"lstm": 1.0}
"""The bias of gates that begin nearly open (Jozefowicz et al. 2015), as the paper's code has an LSTM's."""


def initialise(network: nn.Module, cell: str, keep_bias: Optional[float] = None) -> None:
    """Draw a recurrent network's weights so that signals keep their size through many layers and steps.

    With torch's own weights nine LSTM layers of 20 learn nothing of MNIST in their first epoch: half-open gates make
    the signal four times smaller in each layer. Here what enters a cell's candidate is scaled up by as much. Input
    matrices are otherwise Glorot's, recurrent ones orthogonal (Saxe et al. 2014), gate by gate.

    Args:
        network: with parameters named as those of ``torch.nn.GRU``.
        cell: the name of its cell.
        keep_bias: what the gates begin with that keep the state, the others with 0; with more of it the state lasts for
            more steps at first (Tallec and Ollivier 2018). None is :data:`KEEP_BIAS`, or torch's own biases.
    """
    bias = KEEP_BIAS.get(cell) if keep_bias is None else keep_bias
    # What the gates let through of a new candidate at first, inverted.
    gain = {"rnn": 1.0, "gru": 1 + math.exp(bias or 0.0), "lstm": 4.0}[cell]
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            gates = parameter.chunk(CELLS[cell].gates)
            for place, gate in enumerate(gates):
                if name.startswith("weight_hh"):
                    nn.init.orthogonal_(gate)
                elif name.startswith("weight_ih"):
                    nn.init.xavier_uniform_(gate, gain if place == CANDIDATE[cell] else 1.0)
                elif name.startswith("bias") and bias is not None:
                    gate.fill_(bias if place == KEEP[cell] and name.startswith("bias_ih") else 0.0)
