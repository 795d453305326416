"""What the command line offers: each closed list once, and light to import."""

from typing import Literal, get_args

Device = Literal["cpu", "cuda", "model"]
SuiteName = Literal["forward", "train", "stream", "memory", "growth", "serve", "listen", "weights", "cycles"]
Cell = Literal["gru", "rnn", "lstm"]
Precision = Literal["tf32", "ieee", "bf16", "fp16"]

CELLS: tuple[Cell, ...] = get_args(Cell)
