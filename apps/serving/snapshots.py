"""A stream as bytes: where its model stands, and the results that its client may not have got yet."""

import json
from typing import Any, NamedTuple, Optional

from safetensors import SafetensorError
from safetensors.torch import load, save

from streamdrnn.streaming import State

VERSION = 1


class Snapshot(NamedTuple):
    """All that another server needs to go on with a stream.

    Attributes:
        model: a digest of the model's file.
        format: how the stream's inputs are written.
        seq: the last input that ``state`` has heard.
        ack: the last result that the client said it has.
        results: the packed results from ``ack + 1`` to ``seq``.
        state: of one stream; None is the beginning.
    """

    model: str
    format: str
    seq: int
    ack: int
    results: tuple[bytes, ...]
    state: Optional[State]

    def to_bytes(self) -> bytes:
        """One line of JSON, the results, then the state as safetensors."""
        header = {
            "version": VERSION,
            "model": self.model,
            "format": self.format,
            "seq": self.seq,
            "ack": self.ack,
            "results": [len(result) for result in self.results],
        }
        tensors = b"" if self.state is None else save({k: t.cpu() for k, t in self.state.tensors().items()})
        return b"".join([json.dumps(header).encode(), b"\n", *self.results, tensors])


def model_of(data: bytes) -> str:
    """The digest of the model that a snapshot belongs to.

    Raises:
        ValueError: it is no snapshot of this version.
    """
    return str(_header(data)["model"])


def read_snapshot(data: bytes, beginning: State) -> Snapshot:
    """The snapshot that :meth:`Snapshot.to_bytes` wrote.

    Args:
        beginning: a state of one stream of the same model.

    Raises:
        ValueError: it is damaged, of another version, or of another model.
    """
    header = _header(data)
    rest = data[data.index(b"\n") + 1 :]
    results = []
    try:
        for size in header["results"]:
            results.append(rest[:size])
            rest = rest[size:]
        state = _read_state(rest, beginning) if rest else None
        return Snapshot(header["model"], header["format"], header["seq"], header["ack"], tuple(results), state)
    except (KeyError, TypeError, SafetensorError) as error:
        raise ValueError(f"damaged snapshot: {error}") from None


def _header(data: bytes) -> dict[str, Any]:
    line, newline, _ = data.partition(b"\n")
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not newline or not isinstance(header, dict):
        raise ValueError("damaged snapshot: no header")
    if header.get("version") != VERSION:
        raise ValueError(f"snapshot of version {header.get('version')!r}, this release reads {VERSION}")
    return header


def _read_state(data: bytes, beginning: State) -> State:
    tensors = load(data)
    expected = beginning.tensors()
    if tensors.keys() != expected.keys():
        raise ValueError(f"damaged snapshot: expected tensors {sorted(expected)}, got {sorted(tensors)}")
    values = iter([tensors[name] for name in expected])
    state: State = beginning.map(lambda _: next(values))
    problem = beginning.mismatch(state)
    if problem:
        raise ValueError(f"snapshot: of another model: {problem}")
    return state
