"""What the heads make of a network's outputs, said plainly."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from streamdrnn import Classifier, SpeakerEmbedder, Tagger
from streamdrnn.pooling import running_mean
from tests.agreement import assert_close
from tests.properties.models import KINDS, build_head, without_a_step
from tests.strategies import Network

NETWORK = Network(dilations=(2, 3), cell="gru")
LENGTHS = torch.tensor([7, 3, 0])
HEADS = [kind for kind in KINDS if kind != "network"]


def top(x: Tensor) -> Tensor:
    y, _ = NETWORK.build("reference")(x)
    assert isinstance(y, Tensor)
    return y


def test_a_tagger_reads_every_step() -> None:
    head = build_head("tagger", NETWORK)
    assert isinstance(head, Tagger)
    x = NETWORK.x(7, 3)
    assert_close(head(x)[0], linear(top(x), head.output.weight, head.output.bias))


def test_a_classifier_of_the_last_reads_the_latest_step() -> None:
    head = build_head("classifier of the last", NETWORK)
    assert isinstance(head, Classifier)
    x = NETWORK.x(7, 3)
    assert_close(head(x)[0], linear(top(x), head.output.weight, head.output.bias))


def test_a_classifier_of_the_mean_reads_the_mean_so_far() -> None:
    head = build_head("classifier of the mean", NETWORK)
    assert isinstance(head, Classifier)
    x = NETWORK.x(7, 3)
    y, state = head(x)
    for t in range(7):
        mean = top(x)[: t + 1].mean(0)
        assert_close(y[t], linear(mean, head.output.weight, head.output.bias))
    y, _ = head(x, state)
    twice = NETWORK.build("reference")(torch.cat([x, x]))[0]
    assert_close(y[-1], linear(twice.mean(0), head.output.weight, head.output.bias))


def test_an_embedding_is_the_direction_of_the_projected_mean() -> None:
    head = build_head("embedder", NETWORK)
    assert isinstance(head, SpeakerEmbedder)
    x = NETWORK.x(7, 3)
    y, _ = head(x)
    assert_close(y.norm(dim=-1), torch.ones(7, 3, dtype=torch.float64))
    projected = linear(top(x).mean(0), head.projection.weight, head.projection.bias)
    assert_close(y[-1], projected / projected.norm(dim=-1, keepdim=True))
    assert_close(head.embed(top(x).mean(0)), y[-1])


@pytest.mark.parametrize("kind", HEADS)
def test_the_last_output_is_each_streams_final_judgement(kind: str) -> None:
    """Also of the streams that ``lengths`` end before; a tagger has nothing to say of steps that were not made."""
    head = build_head(kind, NETWORK)
    x = NETWORK.x(7, 3)
    y, state = head(x, None, LENGTHS)
    assert state.rnn.cursor.tolist() == LENGTHS.tolist()
    for b, n in enumerate(LENGTHS.tolist()):
        alone = head(x[:n, b : b + 1])[0][-1, 0] if n else without_a_step(head)
        want = torch.zeros_like(alone) if kind == "tagger" and n < 7 else alone
        assert_close(y[-1, b], want)


@pytest.mark.parametrize("kind", HEADS)
def test_a_stream_that_stands_still_holds_its_judgement(kind: str) -> None:
    head = build_head(kind, NETWORK)
    x = NETWORK.x(5, 2)
    y, state = head(x)
    still, after = head.step(x[0], state, torch.tensor([False, False]))
    held = torch.zeros_like(y[-1]) if kind == "tagger" else y[-1]
    assert_close(still, held)
    assert_close(head.output_so_far(state), held)
    pushed, _ = head(x[:2], after, torch.tensor([0, 0]))
    assert_close(pushed, held.expand(2, *held.shape))


@pytest.mark.parametrize("kind", HEADS)
def test_before_any_step_a_head_answers_as_for_a_zero_output(kind: str) -> None:
    head = build_head(kind, NETWORK)
    want = without_a_step(head).expand(2, -1)
    assert_close(head.output_so_far(head.zero_state(2)), want)
    y, _ = head.step(NETWORK.x(1, 2)[0], head.zero_state(2), torch.tensor([False, False]))
    assert_close(y, want)


@pytest.mark.parametrize("kind", HEADS)
def test_a_heads_gradients_are_the_references(kind: str) -> None:
    gradients = []
    for backend in ("torch", "reference"):
        head = build_head(kind, NETWORK, backend)
        x = NETWORK.x(7, 3).requires_grad_()
        y, _ = head(x, None, LENGTHS)
        gradients.append(torch.autograd.grad(y.cos().sum(), [x, *head.parameters()]))
    for got, want in zip(*gradients, strict=True):
        assert_close(got, want)


def test_a_heads_state_is_not_written_by_step_and_forward() -> None:
    head = build_head("classifier of the mean", NETWORK)
    x = NETWORK.x(5, 2)
    _, state = head(x)
    before = state.clone()
    head(x, state)
    head.step(x[0], state)
    assert all(torch.equal(t, before.tensors()[name]) for name, t in state.tensors().items())


def test_a_mean_of_very_many_steps_still_moves() -> None:
    """A sum in float32 stops growing at 2^24 steps of one."""
    many = 2**25
    one = torch.ones(1, 1, 1)
    total = torch.full((1, 1, 1), float(many), dtype=torch.float64)
    before = torch.tensor([many])
    mean, total = running_mean(3 * one, total, before, before + 1)
    assert float(total) == many + 3
    assert float(mean) == 1.0
    assert mean.dtype == torch.float32


@pytest.mark.parametrize("kind", HEADS)
def test_config_builds_the_same_head(kind: str) -> None:
    head = build_head(kind, NETWORK)
    config = head.config()
    assert config["rnn"] == {"kind": "DilatedRNN", **NETWORK.build().config()}
    assert config["frontend"] is None
