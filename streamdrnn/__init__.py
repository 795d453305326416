"""Dilated recurrent networks that stream: the same numbers step by step as in batch."""

from streamdrnn.checkpoint import load_model, model_notes, save_model
from streamdrnn.dilated_rnn import DilatedRNN
from streamdrnn.drnn_state import DRNNState
from streamdrnn.heads import Classifier, SpeakerEmbedder, Tagger
from streamdrnn.model_state import ModelState
from streamdrnn.streaming import StreamingDRNN

__version__ = "0.1.0"

__all__ = [
    "Classifier",
    "DRNNState",
    "DilatedRNN",
    "ModelState",
    "SpeakerEmbedder",
    "StreamingDRNN",
    "Tagger",
    "load_model",
    "model_notes",
    "save_model",
]
