"""The recurrent cells that there are. Each backend computes one step of each in its own language."""

from typing import NamedTuple


class Cell(NamedTuple):
    """A recurrent cell.

    Attributes:
        name: as users write it.
        gates: how many times H rows its weights have.
        has_c: whether it carries a cell state c beside the hidden state h.
    """

    name: str
    gates: int
    has_c: bool = False


CELLS = {cell.name: cell for cell in (Cell("rnn", 1), Cell("gru", 3), Cell("lstm", 4, has_c=True))}
"""By name; ``"rnn"`` has tanh."""


def cell_named(name: str) -> Cell:
    """The cell of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in CELLS:
        raise ValueError(f"cell: got {name!r}, expected one of {', '.join(CELLS)}")
    return CELLS[name]
