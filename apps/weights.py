"""Models as programs compute with them, whatever their files keep."""

from pathlib import Path
from typing import Any, Literal

Held = Literal["float32", "bf16", "int8"]
""":data:`streamdrnn.kernels.HELD` as an option has it, which must not import torch."""


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
