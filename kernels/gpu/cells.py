"""What the three cells compute on tiles of units, and the gradient of that: Triton functions without memory access.

Gates are in torch's order. All values are float32.
"""

import triton
import triton.language as tl


@triton.jit
def sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def tanh(x):
    # The quotient loses the digits of a small result; there a few terms of the series are exact to rounding.
    e = tl.exp(-2 * tl.abs(x))
    far = (1 - e) / (1 + e)
    s = tl.minimum(x * x, 1.0)
    near = x * (1 + s * (-1 / 3 + s * (2 / 15 - s * (17 / 315))))
    return tl.where(tl.abs(x) < 0.15, near, tl.where(x < 0, -far, far))


@triton.jit
def rnn(a):
    """``h' = tanh(a)``."""
    return tanh(a)


@triton.jit
def rnn_gradient(h, dh):
    """The gradient of a, from ``h'`` and its gradient."""
    return dh * (1 - h * h)


@triton.jit
def gru(i_r, i_z, i_n, h_r, h_z, h_n, h):
    """``n + z (h - n)`` with ``n = tanh(i_n + r h_n)``: the new h, then r, z and n."""
    r = sigmoid(i_r + h_r)
    z = sigmoid(i_z + h_z)
    n = tanh(i_n + r * h_n)
    return n + z * (h - n), r, z, n


@triton.jit
def gru_gradient(r, z, n, h_n, h, dh):
    """The gradients of r's, z's and n's sums, of ``h_n``, and of h by the direct way ``z h``."""
    d_n = dh * (1 - z) * (1 - n * n)
    d_r = d_n * h_n * r * (1 - r)
    d_z = dh * (h - n) * z * (1 - z)
    return d_r, d_z, d_n, d_n * r, dh * z


@triton.jit
def lstm(a_i, a_f, a_g, a_o, c):
    """``c' = f c + i g``, ``h' = o tanh(c')``: h', c', then i, f, g and o."""
    i = sigmoid(a_i)
    f = sigmoid(a_f)
    g = tanh(a_g)
    o = sigmoid(a_o)
    c = f * c + i * g
    return o * tanh(c), c, i, f, g, o


@triton.jit
def lstm_gradient(i, f, g, o, c_old, c, dh, dc):
    """The gradients of the four sums, and of the old c, from those of h' and c'."""
    tanh_c = tanh(c)
    d_o = dh * tanh_c * o * (1 - o)
    dc = dc + dh * o * (1 - tanh_c * tanh_c)
    d_i = dc * g * i * (1 - i)
    d_f = dc * c_old * f * (1 - f)
    d_g = dc * i * (1 - g * g)
    return d_i, d_f, d_g, d_o, dc * f
