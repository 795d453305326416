// One step of one row, which shares its pass over the weights with no other row.
#pragma once
#include "chunk.h"

namespace streamdrnn::STREAMDRNN_LEVEL {

// The neighbouring tiles that are computed together, at most: enough sums to hide how long a multiply-add takes. With
// narrower weights they are as many as in chunks, by measurement.
template <class C> constexpr int most_step_tiles() {
    return static_cast<int>(smallest(WeightsOf<C>::per_word > 1 ? most_vectors<C>(1) : 12 / C::sums, 8));
}

// x_in and h_in: x and h as the weights take them.
template <class C, int N>
inline void step_tiles(const Layer &layer, int64_t tile, const float *const *x_in, const float *const *h_in,
                       const float *h, float *c, float *to) {
    V s[C::sums][N];
    sums_by_units<C, 1, N>(layer, tile, x_in, h_in, s);
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) {
        const int64_t u = (tile + n) * W;
        const int inside = in_vector(layer.H - u);
        V sums[C::sums], c_new;
        for (int k = 0; k < C::sums; k++) sums[k] = s[k][n];
        const V c_old = C::has_c ? load(c + u, inside) : all(0.0f);
        store(to + u, C::template forward<true>(sums, load(h + u, inside), c_old, c_new), inside);
        if (C::has_c) store(c + u, c_new, inside);
    }
}

// x, and h and c of d steps ago, which become the new ones in place; scratch is (H), `copies` is of the stack's
// copy_floats. Every second step should take the tiles `backwards`: it then begins with the weights that the step before
// has left in the first cache.
template <class C>
inline void step_layer(const Layer &layer, bool backwards, const float *x, float *h, float *c, float *scratch,
                       float *copies) {
    constexpr int MOST = most_step_tiles<C>();
    const int64_t tiles = layer.from_input.tiles.count;
    const float *x_copy, *h_copy, *const old = h;
    const auto h_in = as_taken<C>(1, layer.H, &old, copies, &h_copy);
    const auto x_in = as_taken<C>(1, layer.I, &x, copies + copy_size<C>(layer.H), &x_copy);
    float *const to = tiles > MOST ? scratch : h;  // the tiles that come later still read the old h
    for (int64_t left = tiles; left;) {
        const int64_t count = left == MOST + 1 ? 2 : smallest(left, MOST);  // one tile alone would take as long as two
        const int64_t tile = backwards ? left - count : tiles - left;
        with_size<MOST>(static_cast<int>(count),
                        [&](auto size) { step_tiles<C, decltype(size)::value>(layer, tile, x_in, h_in, h, c, to); });
        left -= count;
    }
    if (to != h) copy(to, layer.H, h);
}

// One step of one stream through all layers of a stack that computes by units. Its rings move on, its cursor does not.
// scratch is of step_scratch(stack) floats. The result is the top layer's new row, in its ring.
inline int64_t step_scratch(const Stack &stack) { return round_up(stack.widest(), 16) + stack.copy_floats; }
inline const float *step(const Stack &stack, const Rings &rings, int64_t b, const float *x, float *scratch) {
    const int64_t t = rings.cursor[b];
    float *const copies = scratch + round_up(stack.widest(), 16);
    with_cell(stack.cell, stack.weights, [&](auto cell) {
        using C = decltype(cell);
        for (int64_t l = 0; l < stack.layers; l++) {
            const Layer &layer = stack.layer[l];
            const int64_t slot = slot_of(t, 0, layer.d);
            float *const h = rings.row(rings.h[l], slot, b, layer.H);
            float *const c = C::has_c ? rings.row(rings.c[l], slot, b, layer.H) : nullptr;
            step_layer<C>(layer, t & 1, x, h, c, scratch, copies);
            x = h;
        }
    });
    return x;
}

}  // namespace streamdrnn::STREAMDRNN_LEVEL
