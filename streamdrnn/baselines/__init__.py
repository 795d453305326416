"""Networks to compare dilated recurrent ones with (Chang et al. 2017, section 4), with the same interface.

All map ``(T, B, I) -> (T, B, H)``, causally, and return a state that continues the sequence exactly.
"""

from streamdrnn.baselines.dilated_cnn import CNNState, DilatedCNN
from streamdrnn.baselines.skip_rnn import SkipRNN, SkipRNNState
from streamdrnn.baselines.stacked import stacked_rnn

__all__ = ["CNNState", "DilatedCNN", "SkipRNN", "SkipRNNState", "stacked_rnn"]
