"""What does not fit is refused with one line that names the argument, the value got and the one wanted."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from streamdrnn import Classifier, DilatedRNN, DRNNState, SpeakerEmbedder, StreamingDRNN, Tagger
from streamdrnn.audio import RawWaveform
from streamdrnn.errors import InputError
from tests.strategies import Network, randn

Call = Callable[[], Any]


def refusal(call: Call, kind: type[Exception] | tuple[type[Exception], ...]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) in (InputError, ValueError, TypeError)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("arguments", "kind", "argument", "got"),
    [
        ({"input_size": 0}, ValueError, "input_size", "0"),
        ({"input_size": 2.0}, TypeError, "input_size", "2.0"),
        ({"input_size": True}, TypeError, "input_size", "True"),
        ({"hidden_size": 0}, ValueError, "hidden_size", "0"),
        ({"hidden_size": -3}, ValueError, "hidden_size", "-3"),
        ({"hidden_size": 4.0}, TypeError, "hidden_size", "4.0"),
        ({"hidden_size": None}, TypeError, "hidden_size", "None"),
        ({"hidden_size": [4]}, ValueError, "hidden_size", "1"),
        ({"hidden_size": [4, 0]}, ValueError, "hidden_size[1]", "0"),
        ({"hidden_size": [4, "5"]}, TypeError, "hidden_size[1]", "'5'"),
        ({"dilations": []}, ValueError, "dilations", "none"),
        ({"dilations": None}, ValueError, "dilations", "num_layers"),
        ({"dilations": 2}, TypeError, "dilations", "2"),
        ({"dilations": [1, 0]}, ValueError, "dilations[1]", "0"),
        ({"dilations": [1, -2]}, ValueError, "dilations[1]", "-2"),
        ({"dilations": [1, 2.0]}, TypeError, "dilations[1]", "2.0"),
        ({"num_layers": 3}, ValueError, "num_layers", "3"),
        ({"num_layers": 0, "dilations": None}, ValueError, "num_layers", "0"),
        ({"num_layers": "2", "dilations": None}, TypeError, "num_layers", "'2'"),
        ({"cell": "tanh"}, ValueError, "cell", "'tanh'"),
        ({"cell": None}, ValueError, "cell", "None"),
        ({"dropout": 1.0}, ValueError, "dropout", "1.0"),
        ({"dropout": -0.1}, ValueError, "dropout", "-0.1"),
        ({"dropout": float("nan")}, ValueError, "dropout", "nan"),
        ({"dropout": "0.5"}, TypeError, "dropout", "'0.5'"),
        ({"backend": "fast"}, ValueError, "backend", "'fast'"),
    ],
)
def test_a_networks_arguments(arguments: dict[str, Any], kind: type[Exception], argument: str, got: str) -> None:
    good: dict[str, Any] = {"input_size": 3, "hidden_size": 4, "dilations": [1, 2]}
    message = refusal(lambda: DilatedRNN(**(good | arguments)), kind)
    assert message.startswith((argument + ":", argument + " ")), message
    assert got in message


MODEL = Network(dilations=(2, 3), cell="lstm", dtype=torch.float32).build()
STATE = MODEL.zero_state(2)
X = randn(5, 2, 3, seed=0, dtype=torch.float32)


def with_ring(field: str, layer: int, ring: Any) -> DRNNState:
    changed: dict[str, Any] = {field: list(getattr(STATE, field))}
    changed[field][layer] = ring
    return STATE._replace(**changed)


STATES: list[tuple[Any, type[Exception], str]] = [
    ("zero", TypeError, "state"),
    (torch.zeros(2), TypeError, "state"),
    (STATE.select([0]), ValueError, "state.h[0]"),
    (STATE._replace(mark=STATE.mark[:1]), ValueError, "state"),
    (STATE._replace(h=STATE.h[:1]), ValueError, "state.h"),
    (STATE._replace(c=[]), ValueError, "state.c"),
    (with_ring("h", 1, torch.zeros(2, 2, 4)), ValueError, "state.h[1]"),
    (with_ring("h", 1, torch.zeros(3, 2, 5)), ValueError, "state.h[1]"),
    (with_ring("c", 0, torch.zeros(2, 2, 4, dtype=torch.float64)), TypeError, "state.c[0]"),
    (with_ring("h", 0, torch.zeros(2, 2, 4, device="meta")), ValueError, "state.h[0]"),
    (with_ring("h", 0, None), TypeError, "state.h[0]"),
    (STATE._replace(fusion=torch.zeros(0, 2, 4)), ValueError, "state.fusion"),
    (STATE._replace(cursor=torch.zeros(3, dtype=torch.int64)), ValueError, "state.cursor"),
    (STATE._replace(cursor=torch.zeros(2)), TypeError, "state.cursor"),
    (STATE._replace(cursor=torch.zeros(2, dtype=torch.int64, device="meta")), ValueError, "state.cursor"),
    (STATE.to(dtype=torch.float64), TypeError, "state.h[0]"),
]


@pytest.mark.parametrize(("state", "kind", "argument"), STATES)
def test_a_networks_state(state: Any, kind: type[Exception], argument: str) -> None:
    for call in (lambda: MODEL(X, state), lambda: MODEL.step(X[0], state)):
        assert refusal(call, kind).startswith(argument)


XS: list[tuple[Any, Any]] = [
    (torch.zeros(5, 2, 4), ValueError),
    (torch.zeros(5, 4), ValueError),
    (torch.zeros(3), ValueError),
    (torch.zeros(()), ValueError),
    (torch.zeros(5, 2, 3, dtype=torch.float64), TypeError),
    (torch.zeros(5, 2, 3, dtype=torch.int64), TypeError),
    (torch.zeros(5, 2, 3, device="meta"), ValueError),
    ([[[0.0] * 3]], (TypeError, ValueError)),
    (None, (TypeError, ValueError)),
]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("x", "kind"), XS)
def test_a_networks_input(x: Any, kind: Any, batch_first: bool) -> None:
    model = Network(dtype=torch.float32).build(batch_first=batch_first)
    assert refusal(lambda: model(x), kind).startswith("x:")


@pytest.mark.parametrize(
    ("x", "kind"),
    [
        (torch.zeros(2, 4), ValueError),
        (torch.zeros(1, 2, 3), ValueError),
        (torch.zeros(2, 3, dtype=torch.float64), TypeError),
        (None, TypeError),
    ],
)
def test_a_steps_input(x: Any, kind: type[Exception]) -> None:
    assert refusal(lambda: MODEL.step(x, STATE), kind).startswith("x_t:")


LENGTHS: list[tuple[Any, type[Exception]]] = [
    (torch.tensor([1, 6]), ValueError),
    (torch.tensor([1, -1]), ValueError),
    (torch.tensor([1, 2, 3]), ValueError),
    (torch.tensor([[1, 2]]), ValueError),
    (torch.tensor([1.0, 2.0]), TypeError),
    (torch.tensor([1, 2], dtype=torch.int32), TypeError),
    ([1, 2], TypeError),
]


@pytest.mark.parametrize(("lengths", "kind"), LENGTHS)
def test_lengths(lengths: Any, kind: type[Exception]) -> None:
    head = Tagger(MODEL, 2)
    assert refusal(lambda: MODEL(X, None, lengths), kind).startswith("lengths:")
    assert refusal(lambda: head(X, None, lengths), kind).startswith("lengths:")


ACTIVE: list[tuple[Any, type[Exception]]] = [
    (torch.tensor([1, 0]), TypeError),
    (torch.tensor([True]), ValueError),
    (torch.tensor([[True, False]]), ValueError),
    ([True, False], TypeError),
]


@pytest.mark.parametrize(("active", "kind"), ACTIVE)
def test_active(active: Any, kind: type[Exception]) -> None:
    live = StreamingDRNN(MODEL, 2)
    for call in (
        lambda: MODEL.step(X[0], STATE, active),
        lambda: live.step(X[0], active),
        lambda: live.push(X, active),
    ):
        assert refusal(call, kind).startswith("active:")


def heads() -> list[Any]:
    return [Tagger(MODEL, 2), Classifier(MODEL, 2), Classifier(MODEL, 2, pool="mean"), SpeakerEmbedder(MODEL, 2)]


@pytest.mark.parametrize(("x", "kind"), XS)
@pytest.mark.parametrize("head", heads(), ids=lambda head: type(head).__name__)
def test_a_heads_input(head: Any, x: Any, kind: Any) -> None:
    assert refusal(lambda: head(x), kind).startswith("x:")


@pytest.mark.parametrize("head", heads(), ids=lambda head: type(head).__name__)
def test_a_heads_state(head: Any) -> None:
    good = head.zero_state(2)
    bad: list[tuple[Any, type[Exception], str]] = [
        ("zero", TypeError, "state"),
        (good.rnn, TypeError, "state"),
        (good._replace(rnn=good.rnn._replace(mark=STATE.mark[:1])), ValueError, "state"),
        (good.select([1]), ValueError, "state"),
        (good._replace(pooled=torch.zeros(2, 2, 4)), ValueError, "state.pooled"),
        (good._replace(pooled=good.pooled[:, :1]), ValueError, "state.pooled"),
        (good._replace(audio=RawWaveform(3).zero_state(2)), ValueError, "state.audio"),
    ]
    for state, kind, argument in bad:
        for call in (lambda s=state: head(X, s), lambda s=state: head.step(X[0], s)):
            assert refusal(call, kind).startswith(argument)


def test_a_heads_arguments() -> None:
    batch_first = Network().build(batch_first=True)
    assert refusal(lambda: Tagger(batch_first, 2), ValueError).startswith("rnn:")
    assert refusal(lambda: Tagger(MODEL, 2, RawWaveform(4)), ValueError).startswith("rnn:")
    assert refusal(lambda: Tagger(torch.nn.GRU(3, 4), 2), TypeError).startswith("rnn:")  # type: ignore[arg-type]
    assert refusal(lambda: Tagger(MODEL, 0), ValueError).startswith("num_outputs:")
    assert refusal(lambda: Classifier(MODEL, 2.0), TypeError).startswith("num_classes:")  # type: ignore[arg-type]
    assert refusal(lambda: Classifier(MODEL, 2, pool="max"), ValueError).startswith("pool: got 'max'")
    assert refusal(lambda: SpeakerEmbedder(MODEL, -1), ValueError).startswith("embedding_size:")


@pytest.mark.parametrize(("batch_size", "kind"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_a_batch_size(batch_size: Any, kind: type[Exception]) -> None:
    assert refusal(lambda: StreamingDRNN(MODEL, batch_size), kind).startswith("batch_size:")


def test_only_models_of_the_package_stream() -> None:
    message = refusal(lambda: StreamingDRNN(torch.nn.GRU(3, 4)), TypeError)  # type: ignore[arg-type]
    assert message.startswith("model:")
    assert "GRU" in message


@pytest.mark.parametrize(
    ("chunk", "kind"),
    [
        (torch.zeros(5, 3, 3), ValueError),
        (torch.zeros(5, 2, 2), ValueError),
        (torch.zeros(2, 3), ValueError),
        (torch.zeros(5, 2, 3, dtype=torch.float64), TypeError),
        ([[0.0]], TypeError),
    ],
)
def test_a_pushed_chunk(chunk: Any, kind: type[Exception]) -> None:
    models: list[DilatedRNN | Tagger] = [MODEL, Tagger(MODEL, 2)]
    for model in models:
        live = StreamingDRNN(model, 2)
        assert refusal(lambda live=live: live.push(chunk), kind).startswith("chunk:")  # type: ignore[misc]


@pytest.mark.parametrize("streams", [2, -1, [0, 2], torch.tensor([5])])
def test_streams_outside_the_batch(streams: Any) -> None:
    live = StreamingDRNN(MODEL, 2)
    for call in (lambda: live.reset(streams), lambda: STATE.select(streams), lambda: STATE.reset(streams)):
        assert refusal(call, ValueError).startswith("streams:")


@pytest.mark.parametrize(("streams", "kind"), [(torch.tensor([True]), ValueError), (0.5, TypeError)])
def test_streams_that_are_no_indices(streams: Any, kind: type[Exception]) -> None:
    assert refusal(lambda: STATE.select(streams), kind).startswith("streams:")
