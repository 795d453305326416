"""The torch backend is the reference, faster: outputs, rings, clocks and every gradient."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from streamdrnn.kernels import GATES, Weights, cell_step, dilated_layer
from streamdrnn.kernels.pytorch.gradient import DilatedScan
from tests.agreement import assert_all_close, assert_close, assert_gradients_close
from tests.kernels.cases import Case, cases
from tests.strategies import CELLS, examples, randn


@examples(150)
@given(case=cases())
def test_outputs_rings_and_clocks_agree(case: Case) -> None:
    got, want = (case.run(case.arguments(), backend) for backend in ("torch", "reference"))
    assert_all_close(got, want, "result")
    assert got[0].shape == (case.T, len(case.cursor), case.H)


@examples(150)
@given(case=cases(), outputs=st.sampled_from(["yhc", "y", "h", "c", "hc"]))
def test_all_gradients_agree_whatever_the_loss_looks_at(case: Case, outputs: str) -> None:
    if outputs == "c" and case.cell != "lstm":
        outputs = "h"
    assert_gradients_close(case.gradients("torch", outputs), case.gradients("reference", outputs))


@examples(20)
@given(case=cases())
def test_arguments_are_not_written(case: Case) -> None:
    for backend in ("torch", "reference"):
        arguments = case.arguments().differentiable()
        before = [t.detach().clone() for t in arguments.given()]
        y, h, _, _ = case.run(arguments, backend)
        (y.sum() + h.sum()).backward()
        assert all(torch.equal(t, b) for t, b in zip(arguments.given(), before, strict=True))


@examples(20)
@given(case=cases())
def test_steps_beyond_a_streams_length_write_nothing(case: Case) -> None:
    B = len(case.cursor)
    none = replace(case, lengths=(0,) * B)
    arguments = none.arguments()
    for backend in ("torch", "reference"):
        y, h, c, cursor = none.run(arguments, backend)
        assert not y.any()
        assert torch.equal(h, arguments.h_ring)
        assert (c is None) == (arguments.c_ring is None)
        assert c is None or (arguments.c_ring is not None and torch.equal(c, arguments.c_ring))
        assert cursor.tolist() == list(case.cursor)


@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize("cell", CELLS)
def test_nan_in_the_padding_reaches_neither_results_nor_gradients(cell: str, backend: str) -> None:
    case = Case(cell=cell, T=7, d=3, cursor=(0, 5, 2), lengths=(7, 0, 4))
    clean = case.arguments().differentiable()
    dirty = case.arguments()
    dirty.x[:, 1] = torch.nan
    dirty.x[4:, 2] = torch.inf
    dirty = dirty.differentiable()
    results = [case.run(arguments, backend) for arguments in (dirty, clean)]
    assert_all_close(results[0], results[1], "result")
    gradients = []
    for arguments, (y, h, c, _) in zip((dirty, clean), results, strict=True):
        loss = y.square().sum() + h.sum() + (0 if c is None else c.sum())
        gradients.append(torch.autograd.grad(loss, arguments.given()))
    assert_all_close(gradients[0], gradients[1], "gradient")
    assert not gradients[0][0][:, 1].any()
    assert not gradients[0][0][4:, 2].any()


@pytest.mark.parametrize("lengths", [None, (2, 0)])
@pytest.mark.parametrize(("T", "d"), [(0, 2), (1, 3), (2, 3), (3, 3), (5, 2), (3, 1)])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_those_of_finite_differences(cell: str, T: int, d: int, lengths: tuple[int, ...] | None) -> None:
    """With respect to x, weights, biases, and the states before; of the outputs and of the states after."""
    if lengths is not None:
        lengths = (min(2, T), 0)
    case = Case(cell=cell, T=T, d=d, I=2, H=2, cursor=(0, 4), lengths=lengths)
    arguments = case.arguments().differentiable()

    def layer(*tensors: Tensor) -> tuple[Tensor, ...]:
        values = iter(tensors)
        given = {name: next(values) for name, t in arguments._asdict().items() if t is not None}
        y, h, c, _ = case.run(arguments._replace(**given), "torch")
        return tuple(t for t in (y, h, c) if t is not None and t.numel())

    assert torch.autograd.gradcheck(layer, arguments.given())


@pytest.mark.parametrize("cell", CELLS)
def test_each_gradient_is_the_same_when_it_alone_is_asked_for(cell: str) -> None:
    case = Case(cell=cell, T=7, d=3)
    whole = case.arguments().differentiable()
    y, h, _, _ = case.run(whole, "torch")
    want = torch.autograd.grad(y.square().sum() + h.sum(), whole.given())
    names = [name for name, t in whole._asdict().items() if t is not None]
    for name, expected in zip(names, want, strict=True):
        arguments = case.arguments()
        only = getattr(arguments, name).requires_grad_()
        y, h, _, _ = case.run(arguments, "torch")
        assert_close(torch.autograd.grad(y.square().sum() + h.sum(), only)[0], expected, name)


@pytest.mark.parametrize("cell", CELLS)
def test_layout_in_memory_does_not_matter(cell: str) -> None:
    """``batch_first`` callers pass a transposed x, and the gradient of a sum has stride 0."""
    case = Case(cell=cell, T=6, d=4)
    results = []
    for strange in (False, True):
        arguments = case.arguments()
        if strange:
            x = arguments.x.transpose(0, 1).contiguous().transpose(0, 1)
            w_hh = arguments.w_hh.T.contiguous().T
            arguments = arguments._replace(x=x, w_hh=w_hh)
        leaves = [t.requires_grad_() for t in arguments.given()]
        y = case.run(arguments, "torch")[0]
        loss = y.sum() if strange else (y * torch.ones_like(y)).sum()
        results.append([y, *torch.autograd.grad(loss, leaves)])
    assert_all_close(results[1], results[0])


@pytest.mark.parametrize("cell", CELLS)
def test_an_incoming_gradient_is_not_written(cell: str) -> None:
    """The backward pass completes gradients in place: in a copy, as they may be others' and overlap in memory."""
    x, w_ih, w_hh, _, _, h_ring, c_ring = Case(cell=cell, bias=False).arguments()
    h, c = DilatedScan.apply(cell, x, w_ih, w_hh.requires_grad_(), None, None, h_ring, c_ring)
    states = [h] if c is None else [h, c]
    given = [randn(*state.shape, seed=i) for i, state in enumerate(states)]
    before = [g.clone() for g in given]
    torch.autograd.grad(states, w_hh, given, retain_graph=True)
    assert all(torch.equal(g, b) for g, b in zip(given, before, strict=True))
    want = torch.autograd.grad(states, w_hh, [torch.ones_like(g) for g in given], retain_graph=True)
    overlapping = [torch.ones(1, dtype=g.dtype).expand_as(g) for g in given]
    assert_all_close(torch.autograd.grad(states, w_hh, overlapping), want)


def test_second_derivatives_are_refused_not_wrong() -> None:
    case = Case()
    arguments = case.arguments().differentiable()
    y = case.run(arguments, "torch")[0]
    (dx,) = torch.autograd.grad(y.square().sum(), arguments.x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_one_step_agrees_and_is_a_layer_of_one_step(cell: str, bias: bool) -> None:
    B, I, H = 3, 2, 4  # noqa: E741
    rows = GATES[cell] * H
    x, w_ih, w_hh = randn(B, I, seed=1), randn(rows, I, seed=2), randn(rows, H, seed=3)
    b_ih, b_hh = (randn(rows, seed=4), randn(rows, seed=5)) if bias else (None, None)
    h, c = randn(B, H, seed=6), randn(B, H, seed=7) if cell == "lstm" else None
    leaves = [t.requires_grad_() for t in (x, w_ih, w_hh, b_ih, b_hh, h, c) if t is not None]
    weights = Weights(w_ih, w_hh, b_ih, b_hh)
    results = []
    for backend in ("torch", "reference"):
        h_new, c_new = cell_step(cell, x, weights, h, c, backend=backend)
        loss = h_new.square().sum() + (0 if c_new is None else c_new.square().sum())
        results.append([h_new, c_new, *torch.autograd.grad(loss, leaves)])
    assert_all_close(results[0], results[1])
    c_ring = None if c is None else c[None]
    clock = torch.zeros(B, dtype=torch.int64)
    y, h_ring, c_ring, _ = dilated_layer(cell, x[None], weights, h[None], c_ring, clock)
    want_h, want_c = results[1][:2]
    assert_all_close([y[0], h_ring[0], None if c_ring is None else c_ring[0]], [want_h, want_h, want_c])


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_clocks_far_from_their_beginning_are_exact(backend: str) -> None:
    """A stream that has run for years reads and writes the slots that a young one does."""
    case = Case(cell="lstm", T=5, d=7, cursor=(3, 6))
    old = replace(case, cursor=(3 + 7 * 2**55, 6 + 7 * 2**55))
    for got, want in zip(old.run(old.arguments(), backend)[:3], case.run(case.arguments(), backend)[:3], strict=True):
        assert got is not None
        assert want is not None
        assert torch.equal(got, want)
