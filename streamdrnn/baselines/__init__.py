"""Networks to compare dilated recurrent ones with, with the same interface.

All map ``(T, B, I) -> (T, B, H)``, causally, and return a state that continues the sequence exactly. Stacked, skip and
convolutional networks are the paper's (Chang et al. 2017, section 4); :class:`MinGRU` and :class:`LRU` are of today.
"""

from streamdrnn.baselines.dilated_cnn import CNNState, DilatedCNN
from streamdrnn.baselines.lru import LRU, LRUState
from streamdrnn.baselines.min_gru import MinGRU, MinGRUState
from streamdrnn.baselines.skip_rnn import SkipRNN, SkipRNNState
from streamdrnn.baselines.stacked import stacked_rnn

__all__ = [
    "LRU",
    "CNNState",
    "DilatedCNN",
    "LRUState",
    "MinGRU",
    "MinGRUState",
    "SkipRNN",
    "SkipRNNState",
    "stacked_rnn",
]
