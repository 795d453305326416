"""Matrix products of tiles, accumulated in float32."""

import os

import triton
import triton.language as tl

INTERPRETED: tl.constexpr = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


@triton.jit
def dot(a, w, total, PRECISION: tl.constexpr):
    """``total + a @ w``, with a rounded to the dtype of w."""
    a = a.to(w.dtype)
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
def three_products(a_0, w_0, a_1, w_1, a_2, w_2, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """Three times :func:`product`. Sums that are made together wait for one another's threads once, not three times."""
    if DOT or INTERPRETED:  # it would add element by element
        q_0 = product(a_0, w_0, DOT, PRECISION)
        q_1 = product(a_1, w_1, DOT, PRECISION)
        q_2 = product(a_2, w_2, DOT, PRECISION)
    else:
        q_0, q_1, q_2 = tl.reduce((terms(a_0, w_0), terms(a_1, w_1), terms(a_2, w_2)), 1, add_three)
    return q_0, q_1, q_2


@triton.jit
def four_products(a_0, w_0, a_1, w_1, a_2, w_2, a_3, w_3, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """Four times :func:`product`, as :func:`three_products`."""
    if DOT or INTERPRETED:
        q_0 = product(a_0, w_0, DOT, PRECISION)
        q_1 = product(a_1, w_1, DOT, PRECISION)
        q_2 = product(a_2, w_2, DOT, PRECISION)
        q_3 = product(a_3, w_3, DOT, PRECISION)
    else:
        all_terms = terms(a_0, w_0), terms(a_1, w_1), terms(a_2, w_2), terms(a_3, w_3)
        q_0, q_1, q_2, q_3 = tl.reduce(all_terms, 1, add_four)
    return q_0, q_1, q_2, q_3
