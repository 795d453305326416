"""One step of each cell on tiles of units, and its gradient: Triton functions without memory access.

Tuples have one value per gate, in torch's order. All values are float32.
"""

import triton
import triton.language as tl

from streamdrnn.kernels.cells import CELLS
from streamdrnn.kernels.gpu.availability import interpreted

INTERPRETED = tl.constexpr(interpreted())
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.constexpr_function
def gates(CELL):
    return CELLS[CELL].gates


@triton.jit
def exp2(x):
    """2 to the power of x. A GPU does it in one instruction; ``tl.exp2`` has four, for results that are not normal."""
    if INTERPRETED:
        return tl.exp2(x)
    else:
        return tl.inline_asm_elementwise("ex2.approx.ftz.f32 $0, $1;", "=r,r", [x], tl.float32, is_pure=True, pack=1)


@triton.jit
def reciprocal(x):
    """1 / x. A GPU does it in one instruction; a quotient has four, for divisors above 2^126."""
    if INTERPRETED:
        return 1 / x
    else:
        return tl.inline_asm_elementwise("rcp.approx.ftz.f32 $0, $1;", "=r,r", [x], tl.float32, is_pure=True, pack=1)


@triton.jit
def sigmoid(x):
    return reciprocal(1 + exp2(x * -LOG2_E))


@triton.jit
def tanh(x):
    # The quotient loses the digits of a small result; there a few terms of the series are exact to rounding.
    e = exp2(tl.abs(x) * (-2 * LOG2_E))
    far = (1 - e) * reciprocal(1 + e)
    s = tl.minimum(x * x, 1.0)
    near = x * (1 + s * (-1 / 3 + s * (2 / 15 - s * (17 / 315))))
    return tl.where(tl.abs(x) < 0.15, near, tl.where(x < 0, -far, far))


@triton.jit
def step(i, a, b_n, h, c, CELL: tl.constexpr):
    """From the input's and the state's shares of the gates, a GRU's bias of h_n, and the old states to the new ones.

    Without a cell state, c is any tile and stays as it is. The third result is what the gradient needs beside them:
    nothing for an rnn; r, z, n, h_n; or i, f, g, o.
    """
    if CELL == "rnn":
        return step_of_sums((i[0] + a[0],), a[0], h, c, CELL)
    elif CELL == "gru":
        return step_of_sums((i[0] + a[0], i[1] + a[1], i[2]), a[2] + b_n, h, c, CELL)
    else:
        return step_of_sums((i[0] + a[0], i[1] + a[1], i[2] + a[2], i[3] + a[3]), a[0], h, c, CELL)


@triton.jit
def step_of_sums(gates, h_n, h, c, CELL: tl.constexpr):
    """The same from the gates' sums, of a GRU's n only the input's share, and h_n, which other cells do not have."""
    if CELL == "rnn":
        return tanh(gates[0]), c, ()
    elif CELL == "gru":
        r = sigmoid(gates[0])
        z = sigmoid(gates[1])
        n = tanh(gates[2] + r * h_n)
        return n + z * (h - n), c, (r, z, n, h_n)
    else:
        s = sigmoid(gates[0])
        f = sigmoid(gates[1])
        g = tanh(gates[2])
        o = sigmoid(gates[3])
        c_new = f * c + s * g
        return o * tanh(c_new), c_new, (s, f, g, o)


@triton.jit
def gradient(saved, old, c, dh, dc, CELL: tl.constexpr):
    """From the gradients of h' and c' to those of the gates' sums, of h by the direct way alone, and of c.

    Args:
        saved: as from :func:`step`; for an rnn h'.
        old: a GRU's h, an LSTM's c; else any tile.
        c, dc: c' and its gradient for an LSTM, else any tiles.

    The gates' gradients are in the order in which they are kept: a GRU's are those of h_n, r, z and i_n, so that the
    first three belong to the state's product and the last three to the input's.
    """
    if CELL == "rnn":
        return (dh * (1 - saved[0] * saved[0]),), tl.zeros_like(dh), dc
    elif CELL == "gru":
        r, z, n, h_n = saved
        d_n = dh * (1 - z) * (1 - n * n)
        d_r = d_n * h_n * r * (1 - r)
        d_z = dh * (old - n) * z * (1 - z)
        return (d_n * r, d_r, d_z, d_n), dh * z, dc
    else:
        i, f, g, o = saved
        tanh_c = tanh(c)
        d_o = dh * tanh_c * o * (1 - o)
        dc_new = dc + dh * o * (1 - tanh_c * tanh_c)
        d_i = dc_new * g * i * (1 - i)
        d_f = dc_new * old * f * (1 - f)
        d_g = dc_new * i * (1 - g * g)
        return (d_i, d_f, d_g, d_o), tl.zeros_like(dh), dc_new * f


@triton.jit
def weights_of(gate, CELL: tl.constexpr):
    """Whose weights meet a kept gradient on its way to the state: a GRU's are in the order r, z, n."""
    if CELL == "gru":
        return (gate + 2) % 3
    else:
        return gate
