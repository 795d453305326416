"""`streamdrnn info`: what this installation can do, and what a model file holds and remembers."""

import json
import math
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import tyro

from streamdrnn.errors import InputError, installing

if TYPE_CHECKING:
    from torch import Tensor

    from streamdrnn.memory import DependencyGraph


MEMORY = {
    "seconds_per_step": "seconds per step",
    "receptive_field": "receptive field (steps)",
    "one_hop_field": "by one recurrence per layer at most (steps)",
    "period": "period (steps)",
    "mean_recurrent_length": "mean recurrent length over the period (edges)",
    "mean_recurrent_length_of_a_regular_stack": "that of a regular stack of as many layers",
    "recurrent_edges_per_node": "recurrent edges per node",
    "network_parameters": "parameters of the network, without head",
}
"""What the facts of a model's memory are called in print."""


@dataclass
class Info:
    """Show versions and backends, or what is in a model file and how far back it remembers.

    Example: streamdrnn info model.safetensors --plot plots
    """

    model: Annotated[tyro.conf.Positional[Optional[Path]], tyro.conf.arg(metavar="MODEL", help="A model file.")] = None
    plot: Annotated[
        Optional[Path],
        tyro.conf.arg(
            metavar="FOLDER",
            help="Where to draw, as PNG and SVG, the model's unrolled graph, its recurrent lengths and its gradients "
            "against the lag.",
        ),
    ] = None
    json: Annotated[bool, tyro.conf.arg(help="Print one JSON object.")] = False

    def run(self) -> None:
        if self.model is None:
            if self.plot is not None:
                raise InputError("--plot: give the model file to draw")
            facts, drawing = describe_installation(), ""
        else:
            facts, drawing = self.describe_model(self.model)
        if self.json:
            print(json.dumps(facts))
            return
        for name, value in facts.items():
            if name == "memory" and isinstance(value, dict):
                print(f"{name}:", *(f"  {MEMORY[key] + ':':<52} {said(fact)}" for key, fact in value.items()), sep="\n")
            else:
                print(f"{name + ':':<16} {value}")
        if drawing:
            print(f"\nWhat the output at time t depends on (o), in the last steps:\n\n{drawing}")

    def describe_model(self, path: Path) -> tuple[dict[str, object], str]:
        """The facts of a model file, and its unrolled graph as text; with ``plot`` the plots are written."""
        from streamdrnn import load_model
        from streamdrnn.memory import diagram, graph_of

        model = load_model(path)
        graph = graph_of(model)
        facts = describe_model(model, graph, path)
        if self.plot is not None:
            facts["plots"] = plot(model, graph, self.plot)
        return facts, diagram(graph)


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


def describe_model(model: Any, graph: "DependencyGraph", path: Path) -> dict[str, object]:
    """Kind, parameters, configuration, notes and memory of a model."""
    from streamdrnn import model_notes

    return {
        "kind": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        **model.config(),
        **model_notes(path),
        "memory": describe_memory(model, graph),
    }


def describe_memory(model: Any, graph: "DependencyGraph") -> dict[str, object]:
    """How far back a model sees and how easily (Chang et al. 2017, section 3); None is without bound."""
    from streamdrnn.memory import DependencyGraph, mean_recurrent_length, one_hop_field, receptive_field

    mean = mean_recurrent_length(graph)
    regular = DependencyGraph.recurrent([[1]] * graph.output)
    frontend = getattr(model, "frontend", None)
    step = {} if frontend is None else {"seconds_per_step": frontend.hop_length / frontend.sample_rate}
    return {
        **step,
        "receptive_field": receptive_field(graph),
        "one_hop_field": one_hop_field(graph),
        "period": graph.period,
        "mean_recurrent_length": mean if math.isfinite(mean) else None,
        "mean_recurrent_length_of_a_regular_stack": mean_recurrent_length(regular, graph.period),
        "recurrent_edges_per_node": graph.recurrent_edges_per_node(),
        "network_parameters": sum(parameter.numel() for parameter in getattr(model, "rnn", model).parameters()),
    }


def plot(model: Any, graph: "DependencyGraph", folder: Path) -> list[str]:
    """Draw a model's memory into a folder; the files that were written."""
    try:
        from streamdrnn.apps import memory_plots
    except ModuleNotFoundError as error:
        raise InputError(f"--plot: {error}; plots need it: {installing('bench')}") from None
    folder.mkdir(parents=True, exist_ok=True)
    gradients = gradients_for_noise(model, memory_plots.noise_steps(graph))
    return [str(folder / name) for name in memory_plots.draw(graph, gradients, folder)]


def gradients_for_noise(model: Any, steps: int) -> "Tensor":
    """The gradient norms ``(steps,)`` of a model's network, at each lag, for white noise as its inputs."""
    import torch

    from streamdrnn.heads import Head
    from streamdrnn.memory import gradient_norms
    from streamdrnn.network import parameter_of

    network = model.rnn if isinstance(model, Head) else model
    x = torch.randn(steps, 8, network.input_size, generator=torch.Generator().manual_seed(0))
    x = x.to(parameter_of(network).dtype)
    return gradient_norms(lambda x: network.chunk(x, network.zero_state(8), None), x)


def said(fact: object) -> str:
    """A fact of the memory as people read it."""
    if fact is None:
        return "without bound"
    return f"{fact:.4g}" if isinstance(fact, float) else str(fact)
