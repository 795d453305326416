// The element-wise part of each cell, and its derivatives: one vector of units or of rows at a time.
#pragma once
#include "simd.h"
#include "streamdrnn_cpu.h"

namespace streamdrnn::STREAMDRNN_LEVEL {

// A rational function of degree 11 over 6, fitted to the smallest largest relative error on |x| <= 8, where float32 has
// nearly reached 1: 6e-8 by itself, 3e-7 as computed here. The magnitude of the result never exceeds 1. SOON limits the
// square by itself: the result takes one operation more and is there earlier, with the same bits.
template <bool SOON = false> inline V tanh(V x) {
    const V limited = larger(all(-8.0f), smaller(all(8.0f), x));  // in this order a NaN stays one
    const V u = SOON ? smaller(all(64.0f), x * x) : limited * limited;
    V p = fma(u, all(1.9593135741260507e-11f), all(-1.32951486453463e-08f));
    p = fma(u, p, all(9.43665593494458e-06f));
    p = fma(u, p, all(0.002939109199944795f));
    p = fma(u, p, all(0.12936225253994907f));
    p = fma(u, p, all(0.9999999607079746f));
    V q = fma(u, all(0.00023064805501221713f), all(0.023838063168120358f));
    q = fma(u, q, all(0.46269521796522356f));
    q = fma(u, q, all(1.0f));
    return limited * p * reciprocal(q);
}

template <bool SOON = false> inline V sigmoid(V x) {
    const V half = all(0.5f);
    return fma(half, tanh<SOON>(half * x), half);
}

// A cell, for the loops around it:
//   gates    the number of gates in its weights, which are in torch's order;
//   sums     the number of sums of products that its formula reads (a GRU's new gate needs its two shares apart);
//   sum_of   the sum to which a gate's share, of the input or of the state, is added;
//   kept     the number of factors per unit that the backward pass keeps. The gradient of h turns the first of them
//            into the gradients of the gates: `gates` of them for the state from the first on, in the order that
//            `gate` gives, and `gates` for the input in torch's order from `input_factor` on.
struct Rnn {
    static constexpr int gates = 1, sums = 1, kept = 1, input_factor = 0;
    static constexpr bool has_c = false;
    static constexpr int sum_of(bool, int) { return 0; }
    static constexpr int gate(int k) { return k; }

    template <bool SOON = false> static V forward(const V *s, V, V, V &) { return tanh<SOON>(s[0]); }

    static void factors(const V *s, V, V, V, V *f) {
        const V h = tanh(s[0]);
        f[0] = all(1.0f) - h * h;
    }

    static void gradients(V *f, V dh, V, V &dh_old, V &) {
        f[0] = f[0] * dh;
        dh_old = all(0.0f);
    }
};

// h' = n + z (h - n), n = tanh(i_n + r h_n)
struct Gru {
    static constexpr int gates = 3, sums = 4, kept = 5, input_factor = 1;
    static constexpr bool has_c = false;
    static constexpr int sum_of(bool of_input, int gate) { return gate < 2 ? gate : (of_input ? 2 : 3); }
    static constexpr int gate(int k) { return (k + 2) % 3; }

    template <bool SOON = false> static V forward(const V *s, V h, V, V &) {
        const V r = sigmoid<SOON>(s[0]), z = sigmoid<SOON>(s[1]), n = tanh<SOON>(fma(r, s[3], s[2]));
        return fma(z, h - n, n);
    }

    static void factors(const V *s, V h, V, V, V *f) {
        const V one = all(1.0f);
        const V r = sigmoid(s[0]), z = sigmoid(s[1]), n = tanh(fma(r, s[3], s[2]));
        const V dn = (one - z) * (one - n * n);
        f[0] = dn * r;
        f[1] = dn * s[3] * r * (one - r);
        f[2] = (h - n) * z * (one - z);
        f[3] = dn;
        f[4] = z;
    }

    static void gradients(V *f, V dh, V, V &dh_old, V &) {
        for (int k = 0; k < 4; k++) f[k] = f[k] * dh;
        dh_old = f[4] * dh;
    }
};

// c' = f c + i g, h' = o tanh(c')
struct Lstm {
    static constexpr int gates = 4, sums = 4, kept = 6, input_factor = 0;
    static constexpr bool has_c = true;
    static constexpr int sum_of(bool, int gate) { return gate; }
    static constexpr int gate(int k) { return k; }

    template <bool SOON = false> static V forward(const V *s, V, V c, V &c_new) {
        c_new = fma(sigmoid<SOON>(s[1]), c, sigmoid<SOON>(s[0]) * tanh<SOON>(s[2]));
        return sigmoid<SOON>(s[3]) * tanh<SOON>(c_new);
    }

    static void factors(const V *s, V, V c, V c_new, V *k) {
        const V one = all(1.0f);
        const V i = sigmoid(s[0]), f = sigmoid(s[1]), g = tanh(s[2]), o = sigmoid(s[3]), t = tanh(c_new);
        k[0] = g * i * (one - i);
        k[1] = c * f * (one - f);
        k[2] = i * (one - g * g);
        k[3] = t * o * (one - o);
        k[4] = o * (one - t * t);
        k[5] = f;
    }

    static void gradients(V *k, V dh, V dc, V &dh_old, V &dc_old) {
        dc = fma(dh, k[4], dc);
        for (int j = 0; j < 3; j++) k[j] = k[j] * dc;
        k[3] = k[3] * dh;
        dh_old = all(0.0f);
        dc_old = dc * k[5];
    }
};

// f(cell), for the number that a cell has in the C interface.
template <class F> inline auto with_cell(int cell, const F &f) {
    if (cell == STREAMDRNN_RNN) return f(Rnn{});
    if (cell == STREAMDRNN_GRU) return f(Gru{});
    return f(Lstm{});
}

}  // namespace streamdrnn::STREAMDRNN_LEVEL
