"""`streamdrnn info`: what this installation can do, and what a model file holds."""

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Optional

import tyro


@dataclass
class Info:
    """Show versions and backends, or what is in a model file.

    Example: streamdrnn info model.safetensors
    """

    model: Annotated[tyro.conf.Positional[Optional[Path]], tyro.conf.arg(metavar="MODEL", help="A model file.")] = None
    json: Annotated[bool, tyro.conf.arg(help="Print one JSON object.")] = False

    def run(self) -> None:
        facts = describe_installation() if self.model is None else describe_model(self.model)
        if self.json:
            print(json.dumps(facts))
            return
        for name, value in facts.items():
            print(f"{name + ':':<16} {value}")


def describe_installation() -> dict[str, object]:
    """Versions, and the state of each backend."""
    import torch

    import streamdrnn
    from streamdrnn import kernels

    backends = {name: "usable" if b.usable else b.reason for name, b in kernels.available().items()}
    return {
        "streamdrnn": streamdrnn.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{f"backend {name}": state for name, state in backends.items()},
        **({"cpu kernels": kernels.cpu.level()} if kernels.available()["cpu"].usable else {}),
    }


def describe_model(path: Path) -> dict[str, object]:
    """Kind, parameters, configuration and notes of a model file."""
    from streamdrnn import load_model, model_notes

    model = load_model(path)
    return {
        "kind": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        **model.config(),
        **model_notes(path),
    }
