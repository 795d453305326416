"""Derivatives of every kind: second ones, ``torch.func``, checkpointing, autocast."""

from collections.abc import Callable
from typing import Any, Optional

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vjp, vmap
from torch.utils.checkpoint import checkpoint

from streamdrnn import Classifier, DilatedRNN, Tagger
from streamdrnn.baselines import DilatedCNN, SkipRNN
from tests.agreement import assert_close, assert_gradients_close
from tests.strategies import CELLS

FAST = ["torch", "cpu"]  # triton computes in its interpreter here, which takes seconds: where it is a case of its own


def network(backend: str = "cpu", cell: str = "gru") -> DilatedRNN:
    torch.manual_seed(0)
    return DilatedRNN(3, 4, dilations=[2, 1], cell=cell, backend=backend)


def same(model: DilatedRNN) -> DilatedRNN:
    """The specification with a network's weights."""
    other = DilatedRNN(3, 4, dilations=model.dilations, cell=model.cell, backend="reference")
    other.load_state_dict(model.state_dict())
    return other


def penalty(model: nn.Module, x: Tensor, state: Any = None, lengths: Optional[Tensor] = None) -> list[Tensor]:
    """The gradients of a loss with the norm of the input's gradient in it, as WGAN-GP has it."""
    x = x.clone().requires_grad_()
    y, _ = model(x, state, lengths)
    (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    assert dx.requires_grad
    return list(torch.autograd.grad((dx.norm() - 1).square() + y.mean(), [x, *model.parameters()]))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("backend", FAST)
def test_a_gradient_penalty_has_the_specifications_gradient(backend: str, cell: str) -> None:
    model, x = network(backend, cell), torch.randn(5, 2, 3)
    assert_gradients_close(penalty(model, x), penalty(same(model), x))


@pytest.mark.parametrize("backend", [*FAST, "triton"])
def test_a_gradient_penalty_may_continue_a_state_and_end_streams_early(backend: str) -> None:
    model, x, lengths = network(backend), torch.randn(3, 2, 3), torch.tensor([3, 1])
    state = same(model)(torch.randn(3, 2, 3))[1].detach()
    assert_gradients_close(penalty(model, x, state, lengths), penalty(same(model), x, state, lengths))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Tagger(network(), 2),
        lambda: Classifier(network(), 2),
        lambda: SkipRNN(3, 4, 2),
        lambda: DilatedCNN(3, 4, 2),
    ],
)
def test_gradient_penalties_reach_every_weight_of_heads_and_baselines(make: Callable[[], nn.Module]) -> None:
    gradients = penalty(make(), torch.randn(5, 2, 3))
    assert all(g.isfinite().all() for g in gradients)
    assert sum(g.abs().sum() for g in gradients[1:]) > 0


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_second_derivatives_hold_against_finite_differences(backend: str) -> None:
    model, x = network(backend).double(), torch.randn(3, 1, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: model(x)[0], x)


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_grad_is_what_backward_gives(backend: str) -> None:
    model, x = network(backend), torch.randn(5, 2, 3)
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters: dict[str, Tensor]) -> Any:
        return functional_call(model, parameters, (x,))[0].square().sum()

    model(x)[0].square().sum().backward()
    for name, gradient in grad(loss)(parameters).items():
        assert_close(gradient, model.get_parameter(name).grad, name)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", FAST)
def test_jacobians_and_vjps_are_the_specifications(backend: str) -> None:
    model, x = network(backend), torch.randn(4, 1, 3)
    compute: Callable[[Tensor], Tensor] = lambda x: model(x)[0]  # noqa: E731
    want = torch.autograd.functional.jacobian(lambda x: same(model)(x)[0], x)
    assert_close(jacrev(compute)(x), want)
    assert_close(torch.autograd.functional.jacobian(compute, x, vectorize=True), want)
    pull_back = vjp(compute, x)[1]
    assert_close(pull_back(torch.ones(4, 1, 4))[0], want.sum((0, 1, 2)))


@pytest.mark.parametrize("backend", FAST)
def test_a_network_maps_over_a_further_batch(backend: str) -> None:
    model, x = network(backend), torch.randn(3, 5, 2, 3)
    assert_close(vmap(lambda x: model(x)[0])(x), torch.stack([model(one)[0] for one in x]))


@pytest.mark.parametrize("backend", [*FAST, "triton"])
def test_gradients_per_sample_are_those_of_single_samples(backend: str) -> None:
    model, x = network(backend), torch.randn(3, 2, 3)
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], one: Tensor) -> Any:
        return functional_call(model, parameters, (one[:, None],))[0].square().sum()

    found = vmap(grad(loss), in_dims=(None, 1))(parameters, x)
    for b in range(2):
        model.zero_grad()
        model(x[:, b : b + 1])[0].square().sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            assert_close(found[name][b], parameter.grad, name)


@pytest.mark.parametrize("backend", FAST)
def test_ensembles_of_networks_are_computed_at_once(backend: str) -> None:
    models = [DilatedRNN(3, 4, 2, backend=backend) for _ in range(3)]
    x = torch.randn(5, 2, 3)
    parameters, buffers = stack_module_state(models)
    found = vmap(lambda p, b: functional_call(models[0], (p, b), (x,))[0])(parameters, buffers)
    assert_close(found, torch.stack([model(x)[0] for model in models]))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch uses it for forward mode itself
@pytest.mark.parametrize("backend", [*FAST, "triton"])
def test_derivatives_of_forward_mode_are_those_of_backward_mode(backend: str) -> None:
    model, x, tangent = Tagger(network(backend), 2), torch.randn(3, 1, 3), torch.randn(3, 1, 3)
    whole = torch.autograd.functional.jacobian(lambda x: same(model.rnn)(x)[0] @ model.output.weight.T, x)
    want = torch.einsum("tboTBI,TBI->tbo", whole, tangent)
    assert_close(jacfwd(lambda x: model(x)[0])(x), whole)
    assert_close(jvp(lambda x: model(x)[0], (x,), (tangent,))[1], want)
    with forward_ad.dual_level(), torch.no_grad():
        y, _ = model(forward_ad.make_dual(x, tangent))
        assert_close(forward_ad.unpack_dual(y).tangent, want)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("backend", FAST)
def test_a_hessian_is_the_specifications(backend: str) -> None:
    model, x = network(backend), torch.randn(3, 1, 3)
    want = torch.autograd.functional.hessian(lambda x: same(model)(x)[0].square().sum(), x)
    assert_close(hessian(lambda x: model(x)[0].square().sum())(x), want)
    assert_close(jacrev(jacrev(lambda x: model(x)[0].square().sum()))(x), want)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("backend", FAST)
def test_checkpointing_gives_the_same_gradients(backend: str, reentrant: bool) -> None:
    model, x = network(backend), torch.randn(5, 2, 3, requires_grad=True)
    want = torch.autograd.grad(model(x)[0].square().sum(), list(model.parameters()))
    y, state = checkpoint(model, x, use_reentrant=reentrant)
    y.square().sum().backward()
    assert state.cursor.tolist() == [5, 5]
    for gradient, parameter in zip(want, model.parameters(), strict=True):
        assert torch.equal(parameter.grad, gradient)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_autocast_computes_chunks_and_steps_alike(backend: str) -> None:
    head, x = Tagger(network(backend), 2), torch.randn(5, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = head(x.bfloat16())
        state, steps = head.zero_state(2), []
        for x_t in x.bfloat16():
            out, state = head.step(x_t, state)
            steps.append(out)
        assert y.dtype == steps[0].dtype == torch.bfloat16
        y.float().sum().backward()
    assert all(ring.dtype == torch.float32 for ring in state.rnn.h)
    assert_close(torch.stack(steps).float(), y.float())
    assert head.rnn.weight_ih_l0.grad is not None
    assert head.rnn.weight_ih_l0.grad.dtype == torch.float32
