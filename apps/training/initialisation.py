"""The weights that training starts from."""

import torch
from torch import nn

from streamdrnn.kernels import CELLS

CANDIDATE_GAIN = {"rnn": 1.0, "gru": 2.0, "lstm": 4.0}
"""What half-open gates let through of a new candidate, inverted: a GRU's update gate half, an LSTM's two a quarter."""
CANDIDATE, FORGET = {"rnn": 0, "gru": 2, "lstm": 2}, {"lstm": 1}
"""Gates by their places in torch's order, in the cells that have them."""


def initialise(network: nn.Module, cell: str) -> None:
    """Draw a recurrent network's weights so that signals keep their size through many layers and steps.

    With torch's own weights nine LSTM layers of 20 learn nothing of MNIST in their first epoch: half-open gates make
    the signal four times smaller in each layer. Here what enters a cell's candidate is scaled up by as much. Input
    matrices are otherwise Glorot's, recurrent ones orthogonal (Saxe et al. 2014), gate by gate; an LSTM's forget gates
    begin nearly open, with a bias of 1 (Jozefowicz et al. 2015), as the paper's code has them.

    Args:
        network: with parameters named as those of ``torch.nn.GRU``.
        cell: the name of its cell.
    """
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            gates = parameter.chunk(CELLS[cell].gates)
            for place, gate in enumerate(gates):
                if name.startswith("weight_hh"):
                    nn.init.orthogonal_(gate)
                elif name.startswith("weight_ih"):
                    nn.init.xavier_uniform_(gate, CANDIDATE_GAIN[cell] if place == CANDIDATE[cell] else 1.0)
                elif name.startswith("bias") and cell in FORGET:
                    gate.fill_(1.0 if place == FORGET[cell] and name.startswith("bias_ih") else 0.0)
