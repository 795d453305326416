"""Other ways to compute a :class:`DilatedRNN` without fusion, with its weights and to the same numbers.

They are what people write today. Each is checked against the network before it is timed.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Generic, List, Tuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from streamdrnn import DilatedRNN
from streamdrnn.errors import installing
from streamdrnn.export.quiet import quiet

State = TypeVar("State")
Step = Callable[[Tensor, List[State], List[State]], Tuple[List[State], List[State]]]
"""One step of a whole stack: x ``(B, I)``, and per layer h and (LSTM only) c of d steps ago, to the new h and c."""


class CannotRunError(Exception):
    """A peer needs something that is not here; the message says what."""


class Reshape(nn.Module):
    """The reshape trick: phases become rows of the batch, and each layer is one of torch's own.

    Attributes:
        layers: ``torch.nn.RNN``, ``GRU`` or ``LSTM``; their parameters are in the network's order.
    """

    def __init__(self, model: DilatedRNN) -> None:
        super().__init__()
        kind = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[model.cell]
        self.dilations = model.dilations
        self.layers = nn.ModuleList()
        weights = model.state_dict()
        for number, H in enumerate(model.hidden_sizes):
            weight = weights[f"weight_ih_l{number}"]
            layer = kind(weight.shape[1], H, device=weight.device, dtype=weight.dtype)
            layer.load_state_dict({name: weights[name.replace("_l0", f"_l{number}")] for name in layer.state_dict()})
            self.layers.append(layer)
        self.train(
            model.training
        )  # in training mode cuDNN keeps what a backward pass needs, whether there is one or not

    def forward(self, x: Tensor) -> Tensor:
        """``(T, B, I)`` to ``(T, B, H)``."""
        T, B, _ = x.shape
        for d, layer in zip(self.dilations, self.layers, strict=True):
            rows = -(-T // d)
            phases = pad(x, (0, 0, 0, 0, 0, rows * d - T)).view(rows, d * B, -1)
            x = layer(phases)[0].reshape(rows * d, B, -1)[:T]
        return x


class StackStep(nn.Module):
    """One step of all layers with torch's cell functions, in the part of Python that TorchScript reads.

    Attributes:
        weights: the network's own parameters, four per layer.
    """

    has_c: Final[bool]
    cell_step: Any
    weights: List[Tensor]

    def __init__(self, model: DilatedRNN) -> None:
        super().__init__()
        self.has_c = has_c(model)
        self.cell_step = {"rnn": torch.rnn_tanh_cell, "gru": torch.gru_cell, "lstm": torch.lstm_cell}[model.cell]
        self.weights = list(model.parameters())

    def forward(self, x: Tensor, h: List[Tensor], c: List[Tensor]) -> Tuple[List[Tensor], List[Tensor]]:
        """``x`` is ``(B, I)``; h and, for an LSTM, c hold ``(B, H)`` of d steps ago for each layer."""
        new_h: List[Tensor] = []
        new_c: List[Tensor] = []
        for layer in range(len(h)):
            w_ih, w_hh, b_ih, b_hh = (
                self.weights[4 * layer],
                self.weights[4 * layer + 1],
                self.weights[4 * layer + 2],
                self.weights[4 * layer + 3],
            )
            if self.has_c:
                x, c_layer = self.cell_step(x, [h[layer], c[layer]], w_ih, w_hh, b_ih, b_hh)
                new_c.append(c_layer)
            else:
                x = self.cell_step(x, h[layer], w_ih, w_hh, b_ih, b_hh)
            new_h.append(x)
        return new_h, new_c


class StackOfLayers(nn.Module):
    """One step of a stack of torch's own layers, each called for one step of all rows.

    Args:
        model: whose weights they get.
    """

    def __init__(self, model: DilatedRNN) -> None:
        super().__init__()
        self.layers = Reshape(model).layers
        self.has_c = has_c(model)

    def forward(self, x: Tensor, h: List[Tensor], c: List[Tensor]) -> Tuple[List[Tensor], List[Tensor]]:
        """As :class:`StackStep`."""
        new_h: List[Tensor] = []
        new_c: List[Tensor] = []
        for number, layer in enumerate(self.layers):
            before = h[number][None]
            _, after = layer(x[None], (before, c[number][None]) if self.has_c else before)
            x = after[0][0] if self.has_c else after[0]
            new_h.append(x)
            if self.has_c:
                new_c.append(after[1][0])
        return new_h, new_c


class Loop(nn.Module):
    """A loop over time around a step of the stack."""

    dilations: List[int]
    hidden_sizes: List[int]

    def __init__(self, model: DilatedRNN, step: nn.Module) -> None:
        super().__init__()
        self.has_c = has_c(model)
        self.dilations = model.dilations
        self.hidden_sizes = model.hidden_sizes
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        """``(T, B, I)`` to ``(T, B, H)``."""
        h_rings: List[List[Tensor]] = []
        c_rings: List[List[Tensor]] = []
        for layer in range(len(self.dilations)):
            # With gradients from the first step on, and c apart from h: torch.compile would else compile once more for
            # the beginning of each layer.
            zero_h = x.new_zeros([x.shape[1], self.hidden_sizes[layer]]).requires_grad_(torch.is_grad_enabled())
            zero_c = torch.zeros_like(zero_h).requires_grad_(torch.is_grad_enabled())
            h_rings.append([zero_h for _ in range(self.dilations[layer])])
            if self.has_c:
                c_rings.append([zero_c for _ in range(self.dilations[layer])])
        outputs: List[Tensor] = []
        for t in range(x.shape[0]):
            h: List[Tensor] = []
            c: List[Tensor] = []
            for layer in range(len(self.dilations)):
                h.append(h_rings[layer][t % self.dilations[layer]])
                if self.has_c:
                    c.append(c_rings[layer][t % self.dilations[layer]])
            h, c = self.step(x[t], h, c)
            for layer in range(len(self.dilations)):
                h_rings[layer][t % self.dilations[layer]] = h[layer]
                if self.has_c:
                    c_rings[layer][t % self.dilations[layer]] = c[layer]
            outputs.append(h[-1])
        return torch.stack(outputs)


class Live(Generic[State]):
    """One live batch: a step of the stack, and its past states in lists.

    Args:
        model: whose sizes they are.
        step: one step of it.
        h, c: the states ``(B, H)`` of each layer before the first step, in the step's own kind; c for an LSTM only.
    """

    def __init__(self, model: DilatedRNN, step: Step[State], h: List[State], c: List[State]) -> None:
        self._step = step
        self._dilations = model.dilations
        self._h = [[zero] * d for zero, d in zip(h, model.dilations, strict=True)]
        self._c = [[zero] * d for zero, d in zip(c, model.dilations, strict=False)]
        self._t = 0

    def step(self, x_t: Tensor) -> State:
        """``(B, I)`` to the top layer's ``(B, H)``."""
        slots = [self._t % d for d in self._dilations]
        h = [ring[slot] for ring, slot in zip(self._h, slots, strict=True)]
        c = [ring[slot] for ring, slot in zip(self._c, slots, strict=False)]
        h, c = self._step(x_t, h, c)
        for ring, slot, new in zip(self._h, slots, h, strict=True):
            ring[slot] = new
        for ring, slot, new in zip(self._c, slots, c, strict=False):
            ring[slot] = new
        self._t += 1
        return h[-1]


def live(model: DilatedRNN, step: Step[Tensor], batch_size: int) -> Callable[[Tensor], Tensor]:
    """The step of a live batch, ``(B, I)`` to ``(B, H)``, on a step of the stack for tensors."""
    with torch.inference_mode():  # as later states are: torch.compile would else compile anew for each layer
        return Live(model, step, *zero_states(model, batch_size)).step


def zero_states(model: DilatedRNN, batch_size: int) -> Tuple[List[Tensor], List[Tensor]]:
    """h and c ``(B, H)`` of each layer; no c unless the cells have it."""
    h = [model.weight_ih_l0.detach().new_zeros(batch_size, H) for H in model.hidden_sizes]
    return h, [zero.clone() for zero in h] if has_c(model) else []


def has_c(model: DilatedRNN) -> bool:
    """Whether its cells have a state c beside h."""
    return len(model.zero_state(1).c) > 0


def live_onnx(model: DilatedRNN, batch_size: int) -> Callable[[Tensor], Tensor]:
    """The step of a live batch on :func:`onnx_step`, whose states never leave NumPy.

    Raises:
        CannotRunError: a package is missing.
    """
    h, c = ([zero.numpy() for zero in zeros] for zeros in zero_states(model, batch_size))
    arrays = Live(model, onnx_step(model, batch_size), h, c)
    return lambda x_t: torch.from_numpy(arrays.step(x_t))


def scripted(module: nn.Module) -> nn.Module:
    """The module under TorchScript."""
    with quiet():
        script: nn.Module = torch.jit.script(module)
        return script


def compiled(step: StackStep) -> nn.Module:
    """The step under ``torch.compile``, which compiles when it is called first: do so in :func:`compiling`."""
    torch.compiler.reset()  # what was compiled for other networks counts towards a limit
    module: Any = torch.compile(step, dynamic=False, fullgraph=True)  # all of it is compiled, or it is an error
    return module  # type: ignore[no-any-return]


@contextmanager
def compiling() -> Iterator[None]:
    """Around calls that may compile.

    Raises:
        CannotRunError: what the compiler needs is missing.
    """
    try:
        with quiet():
            yield
    except RuntimeError as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        # Not the message itself, which names files and folders of this machine.
        no_compiler = "InvalidCxxCompiler" in f"{type(error).__name__} {error}"
        why = "needs a C++ compiler" if no_compiler else f"failed with {type(error).__name__}"
        raise CannotRunError(f"torch.compile {why}") from error


def onnx_step(model: DilatedRNN, batch_size: int) -> Step[Any]:
    """The step exported to ONNX and run by onnxruntime on one thread; states are NumPy arrays.

    Raises:
        CannotRunError: a package is missing.
    """
    try:
        for package in ("onnx", "onnxscript"):
            importlib.import_module(package)
        runtime = importlib.import_module("onnxruntime")
    except ModuleNotFoundError as error:
        raise CannotRunError(f"{error}: {installing('bench')}") from None
    example = (torch.zeros(batch_size, model.input_size), *zero_states(model, batch_size))
    with quiet():
        program = torch.onnx.export(StackStep(model).eval(), example, dynamo=True, verbose=False)
    assert program is not None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    session = runtime.InferenceSession(
        program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    layers = model.num_layers

    def step(x_t: Tensor, h: List[Any], c: List[Any]) -> Tuple[List[Any], List[Any]]:
        new = session.run(None, dict(zip(names, [x_t.numpy(), *h, *c], strict=True)))
        return new[:layers], new[layers:]

    return step
