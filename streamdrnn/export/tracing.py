"""A model's step and chunk as ``torch.export`` traces them: for any batch, and any number of steps."""

from typing import Any, Dict, Literal, Tuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule
from torch.utils._pytree import tree_map

from streamdrnn.export.description import step_example
from streamdrnn.export.program import Program
from streamdrnn.state import batch_dim

EntryPoint = Literal["step", "chunk"]
ENTRY_POINTS: Tuple[EntryPoint, ...] = ("step", "chunk")

# The sizes of the example: 1 would be taken for a constant.
_BATCH, _STEPS = 2, 5


class _Entry(nn.Module):
    """One method of a program as the ``forward`` that tracing wants."""

    def __init__(self, program: Program, entry_point: EntryPoint) -> None:
        super().__init__()
        self.program = program
        self.entry_point = entry_point

    def forward(self, x: Tensor, state: Dict[str, Tensor]) -> Tuple[Tensor, Dict[str, Tensor]]:
        return self.program.step(x, state) if self.entry_point == "step" else self.program.chunk(x, state)


def traced(program: Program, entry_point: EntryPoint) -> ExportedProgram:
    """One entry point of a program."""
    x, state = step_example(program, _BATCH)
    if entry_point == "chunk":
        x = x.expand(_STEPS, *x.shape).contiguous()
    dims = {name: Dim(name) for name in ("batch", "steps")}
    shapes = tree_map(lambda name: dims[name], any_sizes(program, entry_point))
    with torch.no_grad():
        exported = torch.export.export(_Entry(program, entry_point), (x, state), dynamic_shapes=shapes, strict=False)
    for module in exported.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else ():
            node.meta.pop("stack_trace", None)  # the paths of this machine's files
    return exported


def any_sizes(program: Program, entry_point: EntryPoint) -> Dict[str, Any]:
    """The dimensions of x, and of each tensor of the state, that may have any size, by their names."""
    state = program.initial_state(1)
    return {
        "x": {0: "batch"} if entry_point == "step" else {0: "steps", 1: "batch"},
        "state": {name: {batch_dim(tensor): "batch"} for name, tensor in state.items()},
    }
