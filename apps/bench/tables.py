"""What every suite gives: tables of named values, for people and for programs."""

from collections.abc import Callable
from typing import NamedTuple, Union

Value = Union[str, int, float, tuple[float, float], None]
Row = dict[str, Value]
Say = Callable[[str], None]
"""Told what is being measured."""


class Table(NamedTuple):
    """Measurements of one kind.

    Attributes:
        name: for programs.
        title: for people.
        rows: all with the same names in the same order; a name ends in its unit, pairs are quartiles, and None
            stands where nothing was measured.
        notes: what one must know to read it.
    """

    name: str
    title: str
    rows: list[Row]
    notes: tuple[str, ...] = ()


def numbers(rows: list[Row], name: str) -> list[float]:
    """A column of numbers."""
    values = [row[name] for row in rows]
    assert all(isinstance(value, int | float) for value in values), f"{name}: {values}"
    return [float(value) for value in values]  # type: ignore[arg-type]
