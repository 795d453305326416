"""A snapshot comes back to the bit, or is refused."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from streamdrnn import StreamingDRNN
from streamdrnn.apps.serving.snapshots import Snapshot, model_of, read_snapshot, to_bytes_together
from streamdrnn.client.protocol import Result, pack_result
from streamdrnn.state import check_fits
from streamdrnn.streaming import State
from tests.agreement import assert_same_bits
from tests.properties.models import KINDS, build
from tests.strategies import Network, examples

NETWORK = Network(3, 4, (2, 3), "lstm", dtype=torch.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_a_snapshot_comes_back_to_the_bit(kind: str) -> None:
    live = StreamingDRNN(build(kind, NETWORK, "auto"))
    beginning = live.snapshot()
    live.push(NETWORK.x(7, 1))
    results = pack_result(Result(8, b"")), pack_result(Result(9, b"numbers\n"))
    written = Snapshot("digest", "features", 9, 7, results, live.snapshot(), 12.5, 3)
    data = written.to_bytes()
    assert model_of(data) == "digest"
    read = read_snapshot(data, beginning)
    assert read._replace(state=None) == written._replace(state=None)
    assert read.state is not None
    assert_same_bits(read.state, live.snapshot())
    assert read_snapshot(Snapshot("digest", "features", 0, 0, (), None).to_bytes(), beginning).state is None


@pytest.mark.parametrize("kind", KINDS)
def test_snapshots_that_are_written_together_are_those_of_each_alone(kind: str) -> None:
    live = StreamingDRNN(build(kind, NETWORK, "auto"), 3)
    live.push(torch.cat([NETWORK.x(7, 1, seed) for seed in range(3)], dim=1))
    results = (pack_result(Result(9, b"numbers!")),)
    alone = [Snapshot("digest", "features", 9, 8, results, live.snapshot(i)) for i in (2, 0)]
    begun = Snapshot("digest", "features", 0, 0, (), None)
    together = to_bytes_together([*alone, begun], live.state, [2, 0, 1])
    assert together == [snapshot.to_bytes() for snapshot in (*alone, begun)]
    assert alone[0].state is not None
    tensors = {name: tensor.contiguous() for name, tensor in alone[0].state.tensors().items()}
    assert together[0].endswith(save(tensors))
    assert to_bytes_together([], live.state, []) == []


def snapshot_data() -> tuple[bytes, State]:
    """A good snapshot, and the beginning of a stream of its model."""
    beginning = StreamingDRNN(build("tagger", NETWORK, "auto")).snapshot()
    return Snapshot("digest", "features", 9, 8, (pack_result(Result(9, b"numbers!")),), beginning).to_bytes(), beginning


def test_damaged_snapshots_are_refused() -> None:
    data, beginning = snapshot_data()
    another = StreamingDRNN(build("network", NETWORK, "auto")).snapshot()
    smaller = StreamingDRNN(build("tagger", Network(3, 3, (2, 3), "lstm", dtype=torch.float32), "auto")).snapshot()
    for wrong, which, problem in [
        (b"", beginning, "no header"),
        (b"[1]\n", beginning, "no header"),
        (b'{"version": 1}\n', beginning, "damaged snapshot"),
        (b"[" * 50_000 + b"\n", beginning, "no header"),
        (b'{"version": 1, "model": "' + b"x" * 10_000_000 + b'"}\n', beginning, "no header"),
        (data.replace(b'"version": 1', b'"version": 2', 1), beginning, "version 2, this release reads 1"),
        (data[:-1], beginning, "damaged snapshot"),
        (data[: data.index(b"numbers!") + 8], beginning, "damaged snapshot: no state"),
        (data, another, "expected tensors"),
        (data, smaller, "of another model"),
    ]:
        with pytest.raises(ValueError, match=problem):
            read_snapshot(wrong, which)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("version", [None, "1", "x" * 10_000, [], float("nan")]),
        ("model", [None, 3, ["digest"], {}]),
        ("format", [None, "mp3", ["features"], {}, 1]),
        ("seq", [None, "9", 9.0, True, -1, 8, 10, 2**63, 10**400, float("nan"), float("inf"), [9]]),
        ("ack", [None, "8", 8.0, False, -1, 7, 9, 10, 2**64, [8]]),
        (
            "results",
            [None, 16, "16", [], [16, 16], [-16], [16.0], ["16"], [True], [10**30], [float("nan")], [[16]], [7]],
        ),
    ],
)
def test_a_header_that_was_tampered_with_is_refused(field: str, values: list[object]) -> None:
    data, beginning = snapshot_data()
    line, _, rest = data.partition(b"\n")
    good = json.loads(line)
    assert good["results"] == [16]
    for value in values:
        wrong = json.dumps(good | {field: value}).encode() + b"\n" + rest
        missing = json.dumps({name: kept for name, kept in good.items() if name != field}).encode() + b"\n" + rest
        for tampered in (wrong, missing):
            with pytest.raises(ValueError, match="snapshot") as refusal:
                read_snapshot(tampered, beginning)
            assert "\n" not in str(refusal.value)
            assert len(str(refusal.value)) < 1000


def test_a_snapshot_of_0_2_goes_on_with_what_it_says_is_left() -> None:
    data, beginning = snapshot_data()
    line, _, rest = data.partition(b"\n")
    header = json.loads(line)
    del header["claim"]
    for steps, left in ((None, 0.0), (7.5, 7.5)):
        read = read_snapshot(json.dumps(header | {"steps": steps}).encode() + b"\n" + rest, beginning)
        assert (read.steps, read.claim) == (left, 0)
    for wrong in (None, -1, 1.5, "1", [1]):
        with pytest.raises(ValueError, match="damaged snapshot"):
            read_snapshot(json.dumps(header | {"claim": wrong}).encode() + b"\n" + rest, beginning)


@examples(100)
@given(
    at=st.floats(0, 1, exclude_max=True),
    length=st.integers(0, 40),
    instead=st.binary(max_size=40),
)
def test_bytes_that_were_tampered_with_are_refused_or_make_a_state_of_the_model(
    at: float, length: int, instead: bytes
) -> None:
    data, beginning = snapshot_data()
    start = int(at * len(data))
    try:
        read = read_snapshot(data[:start] + instead + data[start + length :], beginning)
        if read.state is not None:
            StreamingDRNN(build("tagger", NETWORK, "auto")).restore(read.state)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 (either will do)
    else:
        assert 0 <= read.ack <= read.seq
        assert len(read.results) == read.seq - read.ack
        if read.state is not None:
            check_fits("state", read.state, beginning, beginning.device, beginning.batch_size)
