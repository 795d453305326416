"""The files that a page is made of."""

from importlib.resources import files
from pathlib import Path

from streamdrnn.apps.speaker_id.model import asset

SETUP = "setup.json"
"""What a page asks for first: whether it hears by itself."""
DETECTORS = ("activity", "overlap")


def page_files() -> dict[str, Path]:
    """The page and the runtime in it, by their addresses below the page's own."""
    page = Path(str(files("streamdrnn.apps.speaker_id.web").joinpath("page")))
    runtime = Path(str(files("streamdrnn.kernels").joinpath("wasm")))
    found = {path.relative_to(page).as_posix(): path for path in sorted(page.rglob("*")) if path.is_file()}
    return found | {f"runtime/{name}": runtime / name for name in ("streamdrnn.js", "runtime.wasm")}


def model_files(speaker: Path) -> dict[str, Path]:
    """The models of a page that hears by itself, by their addresses."""
    detectors = {f"models/{name}.safetensors": asset(f"{name}.safetensors") for name in DETECTORS}
    return {"models/speaker.safetensors": speaker, **detectors}
