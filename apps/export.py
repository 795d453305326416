"""`streamdrnn export`: a model as files that other programs run without this package."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclass
class Export:
    """Write a model as files that run without this package, live or in chunks, with its state going in and out.

    TorchScript is one file with both a step and a chunk; ONNX and pt2 are a file for each: --out x.onnx writes
    x.step.onnx and x.chunk.onnx. C is a folder that `make` builds, with a push that keeps the state to itself.

    Example: streamdrnn export speaker --format onnx --out speaker.onnx
    """

    model: Annotated[
        tyro.conf.Positional[str],
        tyro.conf.arg(metavar="MODEL|RUN|speaker", help="A model file, the folder of a run, or the shipped model."),
    ]
    format: Annotated[
        Literal["torchscript", "onnx", "pt2", "c"],
        tyro.conf.arg(help="For torch.jit, ONNX, torch.export, or C."),
    ]
    out: Annotated[
        Path, tyro.conf.arg(metavar="FILE|FOLDER", help="What to write: a .pt, .onnx or .pt2 file; for C a folder.")
    ]
    overwrite: Annotated[bool, tyro.conf.arg(help="Replace files that are there.")] = False
    json: Annotated[bool, tyro.conf.arg(help="Print what was written as one JSON object.")] = False

    def run(self) -> None:
        from streamdrnn import model_notes
        from streamdrnn.apps.model_file import model_file
        from streamdrnn.apps.weights import load_to_run
        from streamdrnn.export import export_model, export_paths

        path = model_file(self.model)
        files = export_paths(self.out, self.format)
        model, notes = load_to_run(path), model_notes(path)
        description = export_model(model, self.out, self.format, notes, self.overwrite)
        if self.json:
            print(json.dumps({"files": [str(file) for file in files.values()], **description}))
            return
        for entry_point, file in files.items():
            print(f"wrote {file} ({_size(file) / 1e6:.1f} MB): {overview(description, entry_point)}")


def overview(description: dict[str, Any], entry_point: str) -> str:
    """What is in a file, in one line; without an entry point it has all of them."""
    calls = []
    for point in [entry_point] if entry_point else description["entry_points"]:
        x, y = (_shape(description["entry_points"][point][name]) for name in ("x", "y"))
        calls.append(f"{point} {x} -> {y}")
    states = len(description["state"])
    return f"{description['kind']}, {', '.join(calls)}" + (
        f", with {states} tensors of state in and out" if states else ""
    )


def _size(path: Path) -> int:
    """The bytes of a file, or of the files in a folder."""
    return sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))


def _shape(described: dict[str, Any]) -> str:
    return f"({', '.join(map(str, described['shape']))})"
