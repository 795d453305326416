"""The fast backends are the reference, faster: outputs, rings, clocks and every gradient."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from streamdrnn.kernels import available, cpu, dilated_layer, reference
from streamdrnn.kernels.cpu.stack import stack
from streamdrnn.kernels.pytorch.gradient import DilatedScan
from tests.agreement import assert_all_close, assert_close, assert_gradients_close
from tests.kernels.cases import (
    NATIVE,
    TRITON,
    Case,
    cases,
    device_of,
    few_cases,
    few_wide_cases,
    needs_native,
    needs_triton,
    wide_cases,
)
from tests.strategies import CELLS, examples, randn

fast_backends = pytest.mark.parametrize("backend", ["torch", NATIVE, TRITON])
backends_and_streams = pytest.mark.parametrize(
    # Native code computes 16 streams and more by rows.
    ("backend", "B"),
    [
        ("torch", 2),
        ("torch", 16),
        pytest.param("cpu", 2, marks=needs_native),
        pytest.param("cpu", 16, marks=needs_native),
        pytest.param("triton", 2, marks=needs_triton),
    ],
)
native_backends = pytest.mark.parametrize("backend", [NATIVE, TRITON])
all_backends = pytest.mark.parametrize("backend", ["torch", "reference", NATIVE, TRITON])
every_cell = pytest.mark.parametrize("cell", CELLS)
LEVELS = ["portable"] if cpu.why_not() else cpu.levels()
every_level = pytest.mark.parametrize("level", [pytest.param(name, marks=needs_native) for name in LEVELS])


def dtype_of(backend: str) -> torch.dtype:
    """The widest that it computes in."""
    return torch.float32 if backend in ("cpu", "triton") else torch.float64


def exact(case: Case) -> list[Tensor | None]:
    """Outputs, rings and clocks of the reference in float64 for a case in float32, then rounded."""
    results = case.run(case.arguments().double(), "reference")
    return [t.float() if t is not None and t.is_floating_point() else t for t in results]


def exact_gradients(case: Case, outputs: str = "yhc") -> list[Tensor]:
    return [g.float() for g in case.gradients("reference", outputs, case.arguments().double())]


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


@every_level
@examples(60)
@given(case=wide_cases())
def test_native_outputs_rings_and_clocks_are_those_of_float64(level: str, case: Case) -> None:
    with cpu.use_level(level):
        assert_all_close(case.run(case.arguments(), "cpu"), exact(case), "result")


@every_level
@examples(60)
@given(case=wide_cases(), outputs=st.sampled_from(["yhc", "y", "h", "c", "hc"]))
def test_native_gradients_are_those_of_float64(level: str, case: Case, outputs: str) -> None:
    if outputs == "c" and case.cell != "lstm":
        outputs = "h"
    with cpu.use_level(level):
        assert_gradients_close(case.gradients("cpu", outputs), exact_gradients(case, outputs))


@needs_triton
@examples(10)
@given(case=few_wide_cases)
def test_triton_outputs_rings_and_clocks_are_those_of_float64(case: Case) -> None:
    assert_all_close(case.run(case.arguments(), "triton"), exact(case), "result")


@needs_triton
@examples(6)
@given(case=few_wide_cases, outputs=st.sampled_from(["yhc", "y", "h", "c", "hc"]))
def test_triton_gradients_are_those_of_float64(case: Case, outputs: str) -> None:
    if outputs == "c" and case.cell != "lstm":
        outputs = "h"
    assert_gradients_close(case.gradients("triton", outputs), exact_gradients(case, outputs))


LARGE = [
    Case("gru", T=3, I=5, H=20, d=70, cursor=(2**55,) * 40),  # by units: too short to interleave the rows
    Case("lstm", T=300, I=5, H=65, d=7, cursor=(3,)),
    Case("lstm", T=90, I=40, H=50, d=70, cursor=(0, 1, 2, 2**55)),
    Case("rnn", T=9, I=3, H=64, d=2, cursor=(0,) * 17),
    Case("gru", T=130, I=17, H=20, d=64, cursor=tuple(range(32))),  # by rows, whole lanes
    Case("lstm", T=33, I=3, H=17, d=5, cursor=tuple(range(40))),  # by rows, lanes left over
    Case("gru", T=33, I=3, H=17, d=5, cursor=tuple(range(40)), lengths=tuple(b % 34 for b in range(40))),
    Case("lstm", T=20, I=2, H=33, d=9, cursor=tuple(range(16)), lengths=(20,) * 8 + (0,) * 8),
    Case("gru", T=9, I=2, H=5, d=3, cursor=tuple(range(72))),  # by 4 rows: more batches than groups
    Case("lstm", T=9, I=2, H=17, d=12, cursor=tuple(range(272)), lengths=tuple(b % 10 for b in range(272))),
    Case("rnn", T=1, I=70, H=3, d=1, cursor=(5,) * 8),
]


@every_level
@pytest.mark.parametrize("case", LARGE, ids=lambda c: f"{c.cell} T={c.T} B={len(c.cursor)} I={c.I} H={c.H} d={c.d}")
def test_native_results_in_sizes_that_cross_every_block(level: str, case: Case) -> None:
    case = replace(case, dtype=torch.float32)
    with cpu.use_level(level):
        got, gradients = case.run(case.arguments(), "cpu"), case.gradients("cpu")
    assert_all_close(got, exact(case), "result")
    assert_gradients_close(gradients, exact_gradients(case))


@fast_backends
@every_cell
@pytest.mark.parametrize(("T", "B"), [(0, 2), (5, 0), (0, 0)])
def test_no_steps_or_no_streams(backend: str, cell: str, T: int, B: int) -> None:
    case = Case(cell, T=T, cursor=(3, 8)[:B], dtype=torch.float32)
    arguments = case.arguments().differentiable()
    y, h, c, cursor = case.run(arguments, backend)
    assert y.shape == (T, B, case.H)
    assert cursor.tolist() == list(case.cursor)
    assert torch.equal(h, arguments.h_ring)
    assert c is None or (arguments.c_ring is not None and torch.equal(c, arguments.c_ring))
    gradients = torch.autograd.grad(y.sum() + 2 * h.sum(), arguments.given(), allow_unused=True, materialize_grads=True)
    names = [name for name, t in arguments._asdict().items() if t is not None]
    for name, gradient, argument in zip(names, gradients, arguments.given(), strict=True):
        assert torch.equal(gradient, torch.full_like(argument, 2.0 if name == "h_ring" else 0.0)), name


@examples(6)
@given(case=cases(), few=few_cases)
def test_arguments_are_not_written(case: Case, few: Case) -> None:
    for backend in ("torch", "reference", "cpu", "triton"):
        if not available()[backend].usable:
            continue
        case = few if backend == "triton" else case
        case = replace(case, dtype=torch.float32 if backend in ("cpu", "triton") else case.dtype)
        arguments = case.arguments().differentiable()
        before = [t.detach().clone() for t in arguments.given()]
        y, h, _, _ = case.run(arguments, backend)
        (y.sum() + h.sum()).backward()
        assert all(torch.equal(t, b) for t, b in zip(arguments.given(), before, strict=True))


@examples(8)
@given(case=cases(), few=few_cases)
def test_steps_beyond_a_streams_length_write_nothing(case: Case, few: Case) -> None:
    for backend in ("torch", "reference", "cpu", "triton"):
        if not available()[backend].usable:
            continue
        case = few if backend == "triton" else case
        B = len(case.cursor)
        none = replace(case, lengths=(0,) * B, dtype=torch.float32 if backend in ("cpu", "triton") else case.dtype)
        arguments = none.arguments()
        y, h, c, cursor = none.run(arguments, backend)
        assert not y.any()
        assert torch.equal(h, arguments.h_ring)
        assert (c is None) == (arguments.c_ring is None)
        assert c is None or (arguments.c_ring is not None and torch.equal(c, arguments.c_ring))
        assert cursor.tolist() == list(case.cursor)


@pytest.mark.parametrize(
    ("backend", "streams"),
    [("torch", 1), ("reference", 1), pytest.param("cpu", 1, marks=needs_native),
     pytest.param("cpu", 12, marks=needs_native), pytest.param("triton", 1, marks=needs_triton)],
)  # fmt: skip
@every_cell
def test_nan_in_the_padding_reaches_neither_results_nor_gradients(cell: str, backend: str, streams: int) -> None:
    """Also where native code computes by rows: with 36 streams, 9 steps and 17 units."""
    case = Case(cell=cell, T=9, H=17, d=3, cursor=(0, 5, 2) * streams, lengths=(9, 0, 4) * streams)
    case = replace(case, dtype=dtype_of(backend))
    clean = case.arguments().differentiable()
    dirty = case.arguments()
    dirty.x[:, 1::3] = torch.nan
    dirty.x[4:, 2::3] = torch.inf
    dirty = dirty.differentiable()
    results = [case.run(arguments, backend) for arguments in (dirty, clean)]
    assert_all_close(results[0], results[1], "result")
    gradients = []
    for arguments, (y, h, c, _) in zip((dirty, clean), results, strict=True):
        loss = y.square().sum() + h.sum() + (0 if c is None else c.sum())
        gradients.append(torch.autograd.grad(loss, arguments.given()))
    assert_all_close(gradients[0], gradients[1], "gradient")
    assert not gradients[0][0][:, 1::3].any()
    assert not gradients[0][0][4:, 2::3].any()


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


@backends_and_streams
@every_cell
def test_each_gradient_is_the_same_when_it_alone_is_asked_for(cell: str, B: int, backend: str) -> None:
    # Triton's interpreter is slow.
    case = Case(cell, T={"triton": 5}.get(backend, 9), H=17, d=3, cursor=tuple(range(B)), dtype=dtype_of(backend))
    whole = case.arguments().differentiable()
    y, h, _, _ = case.run(whole, backend)
    want = torch.autograd.grad(y.square().sum() + h.sum(), whole.given())
    names = [name for name, t in whole._asdict().items() if t is not None]
    for name, expected in zip(names, want, strict=True):
        arguments = case.arguments()
        only = getattr(arguments, name).requires_grad_()
        y, h, _, _ = case.run(arguments, backend)
        assert_close(torch.autograd.grad(y.square().sum() + h.sum(), only)[0], expected, name)


def turned(t: Tensor) -> Tensor:
    """The same numbers, the last dimension outermost in memory."""
    return t.transpose(0, -1).contiguous().transpose(0, -1)


@backends_and_streams
@every_cell
def test_layout_in_memory_does_not_matter(cell: str, B: int, backend: str) -> None:
    """``batch_first`` callers pass a transposed x, and the gradient of a sum has stride 0."""
    case = Case(cell=cell, T=9, H=17, d=4, cursor=tuple(range(B)), dtype=dtype_of(backend))
    results = []
    for strange in (False, True):
        arguments = case.arguments()
        if strange:
            arguments = arguments._replace(**{k: turned(t) for k, t in arguments._asdict().items() if t is not None})
            arguments = arguments._replace(x=arguments.x.transpose(0, 1).contiguous().transpose(0, 1))
            assert not arguments.x.is_contiguous()
            assert not arguments.h_ring.is_contiguous()
        leaves = [t.requires_grad_() for t in arguments.given()]
        y, h, c, _ = case.run(arguments, backend)
        states = [h] if c is None else [h, c]
        loss = sum(t.sum() if strange else (t * torch.ones_like(t)).sum() for t in (y, *states))
        assert isinstance(loss, Tensor)
        results.append([y, *states, *torch.autograd.grad(loss, leaves)])
    assert_all_close(results[1], results[0])


@backends_and_streams
def test_layout_of_clocks_and_lengths_does_not_matter(backend: str, B: int) -> None:
    case = Case("lstm", T=9, H=17, d=5, cursor=(3,) * B, dtype=torch.float32)
    arguments = case.arguments()
    there = device_of(backend)
    arguments = arguments.to(there)
    clocks, own = torch.arange(10, 10 + 2 * B, device=there), torch.arange(2 * B, device=there) % 10
    results = []
    for cursor, lengths in ((clocks[::2], own[::2]), (clocks[::2].clone(), own[::2].clone())):
        rings = (arguments.h_ring, arguments.c_ring)
        results.append(dilated_layer("lstm", arguments.x, arguments.weights, *rings, cursor, lengths, backend=backend))
    assert_all_close(results[0], results[1])
    one = torch.tensor([7], device=there)
    results = [
        dilated_layer("lstm", arguments.x, arguments.weights, *rings, cursor, backend=backend)
        for cursor in (one.expand(B), one.repeat(B))
    ]
    assert_all_close(results[0], results[1])


@fast_backends
def test_a_view_that_negates_is_read_as_what_it_shows(backend: str) -> None:
    """torch gives one as the imaginary part of a conjugate."""
    case = Case("lstm", T=9, dtype=torch.float32)
    arguments = case.arguments()
    negated = arguments._replace(**{k: torch._neg_view(-t) for k, t in arguments._asdict().items() if t is not None})
    assert negated.x.is_neg()
    assert_all_close(case.run(negated, backend), case.run(arguments, backend))


@all_backends
def test_a_clock_before_the_beginning_is_refused_or_counted_round_the_ring(backend: str) -> None:
    case = Case(T=5, d=3, cursor=(-1, -2), dtype=torch.float32)
    arguments = case.arguments()
    try:
        got = case.run(arguments, backend)
    except ValueError:
        return
    want = replace(case, cursor=(2, 1)).run(arguments, "reference")
    assert_all_close(got[:3], want[:3])


@native_backends
@every_cell
def test_native_incoming_gradients_are_not_written_and_may_overlap(cell: str, backend: str) -> None:
    case = Case(cell, T=9, H=17, d=4, cursor=(0, 3), dtype=torch.float32)
    arguments = case.arguments().differentiable()
    outputs = [t for t in case.run(arguments, backend)[:3] if t is not None]
    given = [randn(*t.shape, seed=i, dtype=t.dtype) for i, t in enumerate(outputs)]
    before = [g.clone() for g in given]
    torch.autograd.grad(outputs, arguments.given(), given, retain_graph=True)
    assert all(torch.equal(g, b) for g, b in zip(given, before, strict=True))
    ones = [torch.ones_like(t) for t in outputs]
    want = torch.autograd.grad(outputs, arguments.given(), ones, retain_graph=True)
    overlapping = [torch.ones(1).expand_as(t) for t in outputs]
    for _ in range(2):  # a second pass over the same graph too
        got = torch.autograd.grad(outputs, arguments.given(), overlapping, retain_graph=True)
        assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


@native_backends
def test_native_weights_changed_before_the_backward_pass_are_noticed(backend: str) -> None:
    case = Case(dtype=torch.float32)
    there = case.arguments().to(device_of(backend)).differentiable()
    y = case.run(there, backend)[0]
    with torch.no_grad():
        there.w_hh.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@needs_native
@every_cell
@pytest.mark.parametrize("B", [3, 24])
def test_a_native_stack_is_its_layers_one_by_one(cell: str, B: int) -> None:
    """As one call, with layers of different widths and dilations; also from the beginning, without rings."""
    sizes, dilations, T = [3, 17, 5, 33], [4, 70, 1], 21
    cases_ = [
        Case(cell, T, sizes[i], sizes[i + 1], d, tuple(range(B)), dtype=torch.float32, seed=50 * i)
        for i, d in enumerate(dilations)
    ]
    lengths = torch.arange(B) % (T + 1)
    for from_the_beginning in (False, True):
        results = []
        for together in (False, True):
            layers = [case.arguments().differentiable() for case in cases_]
            weights, leaves = [a.weights for a in layers], [layers[0].x]
            cursor = torch.zeros(B, dtype=torch.int64) if from_the_beginning else torch.arange(B)
            h, c = [a.h_ring for a in layers], [a.c_ring for a in layers if a.c_ring is not None]
            if from_the_beginning:
                h, c = [torch.zeros_like(t) for t in h], [torch.zeros_like(t) for t in c]
                leaves += [t for w in weights for t in w if t is not None]
            else:
                leaves += [t for a in layers for t in a.given()[1:]]
            y = layers[0].x
            if together:
                if from_the_beginning:
                    y, h, c, end = stack(cell, y, weights, dilations, None, None, None, lengths)
                else:
                    y, h, c, end = stack(cell, y, weights, dilations, h, c, cursor, lengths)
            else:
                for i, d in enumerate(dilations):
                    assert h[i].shape[0] == d
                    y, h[i], c_new, end = dilated_layer(
                        cell, y, weights[i], h[i], c[i] if c else None, cursor, lengths, backend="cpu"
                    )
                    if c_new is not None:
                        c[i] = c_new
            states = [y, *h, *c]
            loss = sum((t * randn(*t.shape, seed=i, dtype=t.dtype)).sum() for i, t in enumerate(states))
            assert isinstance(loss, Tensor)
            results.append(([*states, end], torch.autograd.grad(loss, leaves)))
        for got, want in zip(results[1][0], results[0][0], strict=True):
            assert torch.equal(got, want)
        assert_gradients_close(results[1][1], results[0][1])


@needs_native
def test_native_code_computes_float32_only_and_torch_the_rest() -> None:
    case = Case("lstm")
    for got, want in zip(case.run(case.arguments(), "cpu"), case.run(case.arguments(), "torch"), strict=True):
        assert got is not None
        assert want is not None
        assert torch.equal(got, want)


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


@fast_backends
@pytest.mark.parametrize("lengths", [None, (3, 5)])
@every_cell
def test_second_derivatives_are_those_of_the_reference(
    cell: str, lengths: tuple[int, ...] | None, backend: str
) -> None:
    """Of a gradient penalty on everything that a layer is given."""
    case = Case(cell, lengths=lengths, dtype=dtype_of(backend))

    def penalty(name: str) -> list[Tensor]:
        arguments = case.arguments().differentiable()
        y, h, c, _ = case.run(arguments, name)
        loss = y.square().sum() + h.sum() + (0 if c is None else c.square().sum())
        first = torch.autograd.grad(loss, arguments.given(), create_graph=True)
        return list(torch.autograd.grad(torch.stack([g.norm() for g in first]).sum(), arguments.given()))

    assert_gradients_close(penalty(backend), penalty("reference"))


@pytest.mark.parametrize("backend", ["torch", NATIVE])
@every_cell
def test_a_layer_of_one_step_is_the_specifications_step(cell: str, backend: str) -> None:
    case = Case(cell, T=1, H=17, dtype=dtype_of(backend))
    x, *_, h_ring, c_ring = arguments = case.arguments()
    slots, streams = torch.tensor(case.cursor) % case.d, torch.arange(2)
    c = None if c_ring is None else c_ring[slots, streams]
    want, _ = reference.step(cell, x[0], arguments.weights, h_ring[slots, streams], c)
    assert_close(case.run(arguments, backend)[0][0], want)


@needs_native
@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("w_hh", torch.zeros(3, 4), r"layer 0: w_hh: expected shape \(12, 4\), got \(3, 4\)"),
        ("w_hh", torch.zeros(12, 5), r"layer 0: w_ih: expected shape \(15, 3\), got \(12, 3\)"),
        ("w_ih", torch.zeros(12, 50_000), r"x: expected shape \(5, 2, 50000\), got \(5, 2, 3\)"),
        ("b_ih", torch.zeros(1), r"layer 0: b_ih: expected shape \(12,\), got \(1,\)"),
        ("w_hh", torch.zeros(12, 4).to_sparse(), r"layer 0: w_hh: expected a dense tensor on the CPU"),
        ("h_ring", torch.zeros(2, 2, 5), r"ring: expected shape \(2, 2, 4\), got \(2, 2, 5\)"),
        ("h_ring", torch.zeros(2, 2, 4).double(), r"ring: expected dtype torch.float32, got torch.float64"),
    ],
)
def test_native_code_is_given_nothing_that_does_not_fit(name: str, wrong: Tensor, message: str) -> None:
    """It would read or write beyond what is there."""
    arguments = Case(dtype=torch.float32).arguments()._replace(**{name: wrong})
    clocks = torch.zeros(2, dtype=torch.int64)
    with pytest.raises((ValueError, TypeError), match=rf"^{message}"):
        dilated_layer("gru", arguments.x, arguments.weights, arguments.h_ring, None, clocks, backend="cpu")


@all_backends
def test_clocks_far_from_their_beginning_are_exact(backend: str) -> None:
    """A stream that has run for years reads and writes the slots that a young one does."""
    case = Case(cell="lstm", T=5, d=7, cursor=(3, 6), dtype=dtype_of(backend))
    old = replace(case, cursor=(3 + 7 * 2**55, 6 + 7 * 2**55))
    for got, want in zip(old.run(old.arguments(), backend)[:3], case.run(case.arguments(), backend)[:3], strict=True):
        assert got is not None
        assert want is not None
        assert torch.equal(got, want)
