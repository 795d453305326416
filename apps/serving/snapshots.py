"""A stream as bytes: where its model stands, and the results that its client may not have got yet."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional, TypeGuard

from safetensors import SafetensorError
from safetensors.torch import load, save

from streamdrnn.client.protocol import FORMATS, MAX_SEQUENCE, unpack_result
from streamdrnn.state import batch_dim, check_fits
from streamdrnn.storage import shown
from streamdrnn.streaming import State

VERSION = 1
_LONGEST_HEADER = 2**16


class Snapshot(NamedTuple):
    """All that another server needs to go on with a stream.

    Attributes:
        model: a digest of the model's file.
        format: how the stream's inputs are written.
        seq: the last input that ``state`` has heard.
        ack: the last result that the client said it has.
        results: the packed results from ``ack + 1`` to ``seq``.
        state: of one stream; None is the beginning, where ``seq`` is 0.
        steps: how many the client may send at once under the next claim.
        claim: the store's, under which it was taken; 0 before the first.
    """

    model: str
    format: str
    seq: int
    ack: int
    results: tuple[bytes, ...]
    state: Optional[State]
    steps: float = 0.0
    claim: int = 0

    def to_bytes(self) -> bytes:
        """One line of JSON, the results, then the state as safetensors."""
        return self._with(b"" if self.state is None else _states_to_bytes(self.state, [0])[0])

    def _with(self, state: bytes) -> bytes:
        header = {
            "version": VERSION,
            "model": self.model,
            "format": self.format,
            "seq": self.seq,
            "ack": self.ack,
            "results": [len(result) for result in self.results],
            "steps": self.steps,
            "claim": self.claim,
        }
        return b"".join([json.dumps(header).encode(), b"\n", *self.results, state])


def to_bytes_together(snapshots: Sequence[Snapshot], states: State, streams: Sequence[int]) -> list[bytes]:
    """:meth:`Snapshot.to_bytes` of some streams of a batch: one by one, or from copies, it is as slow as a pass.

    Of a stream at its beginning no state is written.
    """
    written = zip(snapshots, _states_to_bytes(states, streams), strict=True)
    return [snapshot._with(state if snapshot.seq else b"") for snapshot, state in written]


def _states_to_bytes(states: State, streams: Sequence[int]) -> list[bytes]:
    """Each stream's tensors as safetensors. The headers of all are the same, as the shapes are."""
    if not streams:
        return []
    one = save(states.select(0).tensors())
    header = one[: 8 + int.from_bytes(one[:8], "little")]
    described = {name: told for name, told in json.loads(header[8:]).items() if name != "__metadata__"}
    order = sorted(described, key=lambda name: described[name]["data_offsets"])
    tensors = states.tensors()
    rows = [tensors[name].movedim(batch_dim(tensors[name]), 0).cpu().numpy() for name in order]
    return [header + b"".join([row[stream].tobytes() for row in rows]) for stream in streams]


def model_of(data: bytes) -> str:
    """The digest of the model that a snapshot belongs to.

    Raises:
        ValueError: it is no snapshot of this version.
    """
    header, _ = _parts(data)
    return str(header["model"])


def read_snapshot(data: bytes, beginning: State) -> Snapshot:
    """The snapshot that :meth:`Snapshot.to_bytes` wrote.

    Args:
        beginning: a state of one stream of the same model.

    Raises:
        ValueError: it is damaged, of another version, or of another model.
    """
    header, rest = _parts(data)
    results = []
    for size in header["results"]:
        results.append(rest[:size])
        rest = rest[size:]
    try:
        numbers = [unpack_result(result).seq for result in results]
    except ValueError as error:
        raise ValueError(f"damaged snapshot: {error}") from None
    if numbers != list(range(header["ack"] + 1, header["seq"] + 1)):
        raise ValueError(f"damaged snapshot: has results {shown(numbers)}")
    if not rest and header["seq"]:
        raise ValueError("damaged snapshot: no state")
    state = _read_state(rest, beginning) if rest else None
    model, written, seq, ack = (header[name] for name in ("model", "format", "seq", "ack"))
    steps, claim = header.get("steps") or 0.0, header.get("claim", 0)  # 0.2 wrote no claim, and at first no steps
    return Snapshot(model, written, seq, ack, tuple(results), state, steps, claim)


def _parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header, whose fields are of the right types and fit one another, and what follows it."""
    line, newline, rest = data.partition(b"\n")
    try:
        header = json.loads(line) if len(line) <= _LONGEST_HEADER else None
    except (ValueError, RecursionError):
        header = None
    if not newline or not isinstance(header, dict):
        raise ValueError("damaged snapshot: no header")
    if header.get("version") != VERSION:
        raise ValueError(f"snapshot of version {shown(header.get('version'))}, this release reads {VERSION}")
    seq, ack, sizes = header.get("seq"), header.get("ack"), header.get("results")
    steps = header.get("steps", 0.0)
    if not (
        isinstance(header.get("model"), str)
        and header.get("format") in list(FORMATS)
        and _is_count(seq)
        and _is_count(ack)
        and _is_count(header.get("claim", 0))
        and isinstance(sizes, list)
        and all(_is_count(size) for size in sizes)
        and ack <= seq <= MAX_SEQUENCE
        and len(sizes) == seq - ack
        and sum(sizes) <= len(rest)
        and (steps is None or (type(steps) in (int, float) and math.isfinite(steps) and steps >= 0))
    ):
        raise ValueError("damaged snapshot: a header that cannot be")
    return header, rest


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _read_state(data: bytes, beginning: State) -> State:
    try:
        tensors = load(data)
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"damaged snapshot: {error}") from None
    expected = beginning.tensors()
    if tensors.keys() != expected.keys():
        raise ValueError(f"damaged snapshot: expected tensors {sorted(expected)}, got {shown(sorted(tensors))}")
    values = iter([tensors[name] for name in expected])
    state: State = beginning.map(lambda _: next(values))
    try:
        check_fits("state", state, beginning, beginning.device, beginning.batch_size)
    except (TypeError, ValueError) as error:
        raise ValueError(f"snapshot: of another model: {error}") from None
    return state
