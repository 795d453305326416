"""The model that somebody names on the command line."""

from pathlib import Path


def model_file(name: str) -> Path:
    """The file of a model: of ``speaker``, the shipped one, or of a run's folder its best, or the file itself."""
    from streamdrnn.apps.speaker_id.model import asset
    from streamdrnn.apps.training.run_folder import MODEL

    if name == "speaker":
        return asset("speaker.safetensors")
    path = Path(name)
    return path / MODEL if path.is_dir() else path
