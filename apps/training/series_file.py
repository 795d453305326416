"""Labelled series in a CSV file: one row per step.

The columns, named in the first line, in any order::

    series,label,split,x,y
    walk-1,left,train,0.1,-2
    walk-1,left,train,0.3,-1
    walk-2,right,test,0.2,0

``series`` says which series a row is a step of; the rows of one are in the order of time, and those of others may lie
between them. ``label`` is any text: the same in all rows of a series, or the label of the step. ``split`` (train,
valid or test, the same in all rows of a series) may be missing; then a hash of the series' names divides them. Every
other column is a feature, of finite numbers.
"""

import csv
import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamdrnn.errors import InputError

SERIES, LABEL, SPLIT = "series", "label", "split"
PARTS = ("train", "valid", "test")
TRAIN_SHARE, VALID_SHARE = 0.7, 0.15


@dataclass
class Series:
    """One series.

    Attributes:
        split: train, valid or test.
        values: of each step, one per feature.
        labels: of each step.
    """

    split: str
    values: list[list[float]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)

    def array(self) -> NDArray[np.float64]:
        """The values ``(T, I)``."""
        return np.array(self.values)


class SeriesFile(NamedTuple):
    """What is in a file: the names of the features, and the series by name, in the order of the file."""

    features: list[str]
    series: dict[str, Series]


def read_series(path: Path, per_step: bool) -> SeriesFile:
    """The labelled series in a CSV file.

    Args:
        per_step: whether a series has a label for every step, rather than one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not as described above; the message begins with its path, and the line if there is one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a CSV file")
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file, strict=True)
        try:
            content = _read(lines, per_step)
        except UnicodeDecodeError:
            raise InputError(f"{path}: not UTF-8, expected a CSV file") from None
        except (csv.Error, InputError) as error:
            raise InputError(f"{path}, line {lines.line_num}: {error}") from None
    _check_parts(path, content.series.values())
    return content


def _read(lines: Iterator[list[str]], per_step: bool) -> SeriesFile:
    header = next(lines, [])
    for name in (SERIES, LABEL):
        if name not in header:
            raise InputError(f"no column {name!r}, expected the names of the columns, with commas between them")
    twice = {name for name in header if header.count(name) > 1}
    if twice:
        raise InputError(f"two columns {min(twice)!r}")
    features = [name for name in header if name not in (SERIES, LABEL, SPLIT)]
    if not features:
        raise InputError(f"no features, expected columns beside {SERIES!r} and {LABEL!r}")
    all_series: dict[str, Series] = {}
    for fields in lines:
        if not fields:  # an empty line
            continue
        if len(fields) != len(header):
            raise InputError(f"{len(fields)} fields, expected {len(header)}")
        _add(dict(zip(header, fields, strict=True)), features, all_series, per_step)
    return SeriesFile(features, all_series)


def _add(row: dict[str, str], features: list[str], all_series: dict[str, Series], per_step: bool) -> None:
    """Add a row to its series."""
    name, label = row[SERIES], row[LABEL]
    for column in (SERIES, LABEL):
        if not row[column].strip():
            raise InputError(f"no {column}")
    split = row[SPLIT] if SPLIT in row else _part_of(name)
    if split not in PARTS:
        raise InputError(f"split {split!r}, expected train, valid or test")
    series = all_series.setdefault(name, Series(split))
    if series.split != split:
        raise InputError(f"series {name!r} is in {series.split} and in {split}")
    if not per_step and series.labels and series.labels[0] != label:
        raise InputError(f"series {name!r} has labels {series.labels[0]!r} and {label!r}; --per-step takes several")
    series.values.append([_number(column, row[column]) for column in features])
    series.labels.append(label)


def _number(column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{column} is {text!r}, expected a finite number")
    return value


def _part_of(name: str) -> str:
    """Which part a series belongs to, by a hash of its name: 70, 15 and 15 percent of many."""
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    return "train" if place < TRAIN_SHARE else "valid" if place < TRAIN_SHARE + VALID_SHARE else "test"


def _check_parts(path: Path, all_series: Iterable[Series]) -> None:
    """Raise ``ValueError`` unless there is something to learn, in every part."""
    labels: dict[str, set[str]] = {part: set() for part in PARTS}
    for series in all_series:
        labels[series.split].update(series.labels)
    for part in PARTS:
        if not labels[part]:
            raise InputError(f"{path}: no series in {part}; a column {SPLIT!r} says which are")
    if len(labels["train"]) < 2:
        raise InputError(f"{path}: one label in train, {min(labels['train'])!r}, expected two or more")
    unknown = (labels["valid"] | labels["test"]) - labels["train"]
    if unknown:
        raise InputError(f"{path}: no series in train has the label {min(unknown)!r}")
