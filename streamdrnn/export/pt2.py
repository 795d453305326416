"""The archives of ``torch.export``: a file for each entry point."""

import io
from typing import Any, Dict

import torch

from streamdrnn.export.description import NAME, described_as
from streamdrnn.export.program import Program
from streamdrnn.export.tracing import ENTRY_POINTS, traced


def to_pt2(program: Program, description: Dict[str, Any]) -> Dict[str, bytes]:
    """The files' contents by entry point."""
    contents: Dict[str, bytes] = {}
    for entry_point in ENTRY_POINTS:
        file = io.BytesIO()
        torch.export.save(
            traced(program, entry_point), file, extra_files={NAME: described_as(description, entry_point)}
        )
        contents[entry_point] = file.getvalue()
    return contents
