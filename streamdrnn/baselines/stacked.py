"""The ordinary stack of recurrent layers."""

from typing import Any

from streamdrnn.checks import check_positive
from streamdrnn.dilated_rnn import DilatedRNN


def stacked_rnn(input_size: int, hidden_size: int, num_layers: int, cell: str = "gru", **options: Any) -> DilatedRNN:
    """``torch.nn.RNN``, ``GRU`` or ``LSTM`` of several layers: a :class:`DilatedRNN` whose dilations are all 1.

    So a comparison of the two is one of dilations, on the same kernels.

    Args:
        input_size, hidden_size, num_layers, cell, options: see :class:`DilatedRNN`.

    Raises:
        ValueError, TypeError: as :class:`DilatedRNN`.
    """
    dilations = [1] * check_positive("num_layers", num_layers)
    return DilatedRNN(input_size, hidden_size, dilations=dilations, cell=cell, **options)
