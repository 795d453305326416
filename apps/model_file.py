"""The model that somebody names on the command line."""

from pathlib import Path
from typing import Any


def model_file(name: str) -> Path:
    """The file of a model: of ``speaker``, the shipped one, or of a run's folder its best, or the file itself."""
    from streamdrnn.apps.speaker_id.model import asset
    from streamdrnn.apps.training.run_folder import MODEL

    if name == "speaker":
        return asset("speaker.safetensors")
    path = Path(name)
    return path / MODEL if path.is_dir() else path


def load_to_run(path: Path) -> Any:
    """The model in a file as :func:`streamdrnn.load_model` gives it, but weights that are kept in 16 bits as float32.

    Models are kept so to be half as large; programs compute in float32.

    Raises:
        FileNotFoundError, ValueError: as :func:`streamdrnn.load_model`.
    """
    import torch

    from streamdrnn import load_model

    model = load_model(path)
    dtype = next(model.parameters()).dtype
    return model.float() if dtype in (torch.float16, torch.bfloat16) else model
