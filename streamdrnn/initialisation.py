"""The weights that training starts from."""

import math
from typing import Optional

import torch
from torch import nn

from streamdrnn.errors import InputError
from streamdrnn.kernels import cell_named

CANDIDATE, KEEP = {"rnn": 0, "gru": 2, "lstm": 2}, {"gru": 1, "lstm": 1}
"""Gates by their places in torch's order; a GRU's update gate keeps the state, as an LSTM's forget gate does."""
MOST_KEEP_BIAS = 10
"""With more, gates are shut to the last bits of float32, and nothing is learned."""
KEEP_BIAS = {"lstm": 1.0}
"""The bias of gates that begin nearly open (Jozefowicz et al. 2015), as the paper's code has an LSTM's."""


def initialise(network: nn.Module, keep_bias: Optional[float] = None) -> None:
    """Draw a recurrent network's weights so that signals keep their size through many layers and steps.

    With torch's own weights nine LSTM layers of 20 learn nothing of MNIST in their first epoch: half-open gates make
    the signal four times smaller in each layer. Here what enters a cell's candidate is scaled up by as much. Input
    matrices are otherwise Glorot's, recurrent ones orthogonal (Saxe et al. 2014), gate by gate.

    Args:
        network: a :class:`DilatedRNN`, or another with a ``cell`` and parameters named as those of ``torch.nn.GRU``.
        keep_bias: what the gates begin with that keep the state (a GRU's update gate, an LSTM's forget gate), the
            others with 0; with more of it the state lasts for more steps at first (Tallec and Ollivier 2018). None is
            1 for an LSTM, and torch's own biases for a GRU.

    Raises:
        ValueError: the network has no cell, or ``keep_bias`` no gate, or it is beyond -10 to 10.
    """
    cell = cell_named(getattr(network, "cell", ""))
    if keep_bias is not None and cell.name not in KEEP:
        raise InputError("keep_bias: expected with a gru or lstm, whose gates keep the state")
    if keep_bias is not None and not abs(keep_bias) <= MOST_KEEP_BIAS:
        raise InputError(f"keep_bias: expected from -{MOST_KEEP_BIAS} to {MOST_KEEP_BIAS}, got {keep_bias}")
    bias = KEEP_BIAS.get(cell.name) if keep_bias is None else keep_bias
    # What the gates let through of a new candidate at first, inverted.
    gain = {"rnn": 1.0, "gru": 1 + math.exp(bias or 0.0), "lstm": 4.0}[cell.name]
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            for place, gate in enumerate(parameter.chunk(cell.gates)):
                if name.startswith("weight_hh"):
                    nn.init.orthogonal_(gate)
                elif name.startswith("weight_ih"):
                    nn.init.xavier_uniform_(gate, gain if place == CANDIDATE[cell.name] else 1.0)
                elif name.startswith("bias") and bias is not None:
                    gate.fill_(bias if place == KEEP[cell.name] and name.startswith("bias_ih") else 0.0)
