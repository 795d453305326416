"""Dilated recurrent networks that stream: the same numbers step by step as in batch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamdrnn.checkpoint import load_model, model_notes, save_model
    from streamdrnn.dilated_rnn import DilatedRNN
    from streamdrnn.drnn_state import DRNNState
    from streamdrnn.heads import Classifier, SpeakerEmbedder, Tagger
    from streamdrnn.initialisation import initialise
    from streamdrnn.model_state import ModelState
    from streamdrnn.sharing import from_pretrained, push_to_hub, save_pretrained
    from streamdrnn.streaming import StreamingDRNN

__version__ = "0.2.0"

__all__ = [
    "Classifier",
    "DRNNState",
    "DilatedRNN",
    "ModelState",
    "SpeakerEmbedder",
    "StreamingDRNN",
    "Tagger",
    "from_pretrained",
    "initialise",
    "load_model",
    "model_notes",
    "push_to_hub",
    "save_model",
    "save_pretrained",
]

# Imported when first asked for: a client of a server (streamdrnn.client) does without torch.
_HOMES = {
    "Classifier": "heads",
    "DRNNState": "drnn_state",
    "DilatedRNN": "dilated_rnn",
    "ModelState": "model_state",
    "SpeakerEmbedder": "heads",
    "StreamingDRNN": "streaming",
    "Tagger": "heads",
    "from_pretrained": "sharing",
    "initialise": "initialisation",
    "load_model": "checkpoint",
    "model_notes": "checkpoint",
    "push_to_hub": "sharing",
    "save_model": "checkpoint",
    "save_pretrained": "sharing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
