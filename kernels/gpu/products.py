"""Matrix products of tiles, accumulated in float32."""

import os

import triton
import triton.language as tl

from streamdrnn.kernels.gpu.memory import load_weights

INTERPRETED: tl.constexpr = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


@triton.jit
def rounded(x, PRECISION: tl.constexpr):
    """An operand as tensor cores take it: they would cut the bits off, with twice the error and to one side.

    As the instruction ``cvt.rna.tf32`` does: to the nearest number, ties away from zero.
    """
    if PRECISION == "tf32" and x.dtype == tl.float32:
        bits = x.to(tl.int32, bitcast=True)
        nearest = ((bits + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
        return tl.where(x == x, nearest, x)
    else:
        return x


@triton.jit
def dot(a, w, total, PRECISION: tl.constexpr):
    """``total + a @ w``, with a rounded as w is, which is read more than once and rounded before."""
    a = rounded(a.to(w.dtype), PRECISION)
    if INTERPRETED:  # its dot would take the bits of bfloat16 for integers
        return tl.dot(a.to(tl.float32), w.to(tl.float32), total, input_precision=PRECISION)
    else:
        return tl.dot(a, w, total, input_precision=PRECISION)


@triton.jit
def product(a, w, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """``a @ w``: by tensor cores, or as multiplications and a sum, for which a is not rounded."""
    if DOT:
        return dot(a, w, tl.zeros([a.shape[0], w.shape[1]], tl.float32), PRECISION)
    else:
        return tl.sum(terms(a, w), 1)


@triton.jit
def terms(a, w):
    return a[:, :, None] * w.to(tl.float32)[None, :, :]


@triton.jit
def add_three(a, b, c, d, e, f):
    return a + d, b + e, c + f


@triton.jit
def add_four(a, b, c, d, e, f, g, h):
    return a + e, b + f, c + g, d + h


@triton.jit
def products(a, w, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """Each :func:`product` of two tuples. Sums made together wait for one another's threads once, not each time."""
    if DOT or INTERPRETED or len(w) == 1:  # the interpreter would add element by element
        found = ()
        for gate in tl.static_range(len(w)):
            found += (product(a[gate], w[gate], DOT, PRECISION),)
        return found
    elif len(w) == 3:
        return tl.reduce((terms(a[0], w[0]), terms(a[1], w[1]), terms(a[2], w[2])), 1, add_three)
    else:
        all_terms = terms(a[0], w[0]), terms(a[1], w[1]), terms(a[2], w[2]), terms(a[3], w[3])
        return tl.reduce(all_terms, 1, add_four)


@triton.jit
def add_products(totals, x, p_w, by_gate, by_input, by_unit, inputs, K, unit, H, PRECISION: tl.constexpr):
    """Add a tile of inputs times its weights to each gate's total."""
    sums = ()
    for gate in tl.static_range(len(totals)):
        w = load_weights(p_w + gate * by_gate, by_input, by_unit, inputs, K, unit, H)
        sums += (dot(x, w, totals[gate], PRECISION),)
    return sums
