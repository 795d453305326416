"""A model's step and chunk as ``torch.export`` traces them: for any batch, and any number of steps."""

from typing import Dict, Literal, Tuple, Union

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from streamdrnn.export.description import step_example
from streamdrnn.export.program import Program
from streamdrnn.state import batch_dim

EntryPoint = Literal["step", "chunk"]
ENTRY_POINTS: Tuple[EntryPoint, ...] = ("step", "chunk")

# Sizes of the example by which is traced: 1 would be taken for a constant.
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
    batch = Dim("batch")
    sizes: Dict[str, Union[Dict[int, Dim], Dict[str, Dict[int, Dim]]]] = {
        "x": {0: batch},
        "state": {name: {batch_dim(tensor): batch} for name, tensor in state.items()},
    }
    if entry_point == "chunk":
        x = x.expand(_STEPS, *x.shape).contiguous()
        sizes["x"] = {0: Dim("steps"), 1: batch}
    with torch.no_grad():
        return torch.export.export(_Entry(program, entry_point), (x, state), dynamic_shapes=sizes, strict=False)
