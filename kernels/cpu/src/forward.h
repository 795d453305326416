// A chunk through the stack, forward.
#pragma once
#include "chunk.h"

namespace streamdrnn::STREAMDRNN_LEVEL {

struct Forward : Chunk {
    const streamdrnn_state &state;
    float *y, *saved;
    Scratch scratch;
    Array<float *> out;             // per group and layer what the next layer reads, where it is not saved
    Array<float *> h_ring, c_ring;  // by rows: the rings of the batch at work, [slot][H][lane]
    Array<float *> x_lanes;         // by rows: per group a block of x, [step][I][lane]
    Array<float *> sums_of;         // by rows: per worker the sums of one step
    int threads;
    bool fresh;        // by rows: the streams are before their first step, and their rings are not read
    bool single_step;  // everything is in the stack's scratch: no memory is taken

    Forward(const Stack &stack, const streamdrnn_state &state, int64_t T, const float *x, const int64_t *lengths,
            float *y, float *saved, int threads, bool fresh)
        : Chunk(stack, T, state.batch_size, x, lengths, false), state(state), y(y), saved(saved), threads(threads),
          fresh(fresh), single_step(T == 1 && !stack.by_rows && !saved && B <= stack.step_rows) {
        if (single_step) return;
        if (saved) expect_writes(saved, batches * saved_per_batch());
        const int64_t lanes = groups * stack.layers;
        out = Array<float *>(lanes), h_ring = Array<float *>(lanes), c_ring = Array<float *>(lanes);
        x_lanes = Array<float *>(groups), sums_of = Array<float *>(threads);
        scratch.lay_out([&] {
            for (int64_t i = 0; i < lanes; i++) {
                const Layer &layer = stack.layer[i % stack.layers];
                const bool to_y = !stack.by_rows && i == stack.layers - 1;
                if (!saved && !to_y) out[i] = scratch.take(steps_in_flight() * rows_per_group * layer.H);
                if (!stack.by_rows) continue;
                const int64_t ring = smallest(T, layer.d) * layer.H * W;
                h_ring[i] = scratch.take(ring), c_ring[i] = scratch.take(stack.has_c() ? ring : 0);
            }
            if (!stack.by_rows) return;
            for (int64_t g = 0; g < groups; g++) x_lanes[g] = scratch.take(steps_per_block * stack.layer[0].I * W);
            for (int i = 0; i < threads; i++) sums_of[i] = scratch.take(4 * stack.widest() * W);
        });
    }

    void run() {
        const Task task = [](void *self, int worker, int64_t group, int64_t layer, int64_t block) {
            Forward &f = *static_cast<Forward *>(self);
            with_cell(f.stack.cell, [&](auto c) {
                using C = decltype(c);
                f.stack.by_rows ? f.by_rows<C>(worker, group, layer, block) : f.by_units<C>(layer, block);
            });
        };
        run_lanes(threads, groups, stack.layers, blocks(), task, this);
    }

    // ---- by units

    // Where layer l writes step t of all streams, (B, H).
    float *out_by_units(const Block &at, int64_t l, int64_t t) const {
        const int64_t H = h_of(l);
        if (saved) return saved + saved_start(0, l) + t * B * H;
        if (l == stack.layers - 1) return y + t * B * H;
        if (single_step) return stack.step_scratch + l % 2 * B * stack.widest();
        return out[l] + (at.in_flight + t - at.begin) * B * H;
    }

    template <class C> void by_units(int64_t l, int64_t block) {
        constexpr int ROWS = 8 * MOST_ROWS;  // collected before they are computed together
        const Layer &layer = stack.layer[l];
        const int64_t H = layer.H;
        const Block at(*this, 0, block, false);
        const bool copy_to_y = saved && l == stack.layers - 1;
        const float *xs[ROWS];
        float *hs[ROWS], *cs[ROWS], *outs[ROWS], *c_saved[ROWS];
        int64_t rows = 0;
        const auto compute = [&] {
            advance<C>(layer, rows, xs, hs, cs, outs);
            for (int64_t i = 0; i < rows; i++) {
                std::memcpy(hs[i], outs[i], static_cast<size_t>(H) * sizeof(float));
                if constexpr (C::has_c)
                    if (saved) std::memcpy(c_saved[i], cs[i], static_cast<size_t>(H) * sizeof(float));
            }
            rows = 0;
        };
        for (int64_t s = at.begin; s < at.end; s += layer.d) {  // d steps in a row do not see one another
            for (int64_t t = s; t < smallest(s + layer.d, at.end); t++) {
                const float *in = l ? out_by_units(at, l - 1, t) : x + t * B * layer.I;
                float *const to = out_by_units(at, l, t);
                for (int64_t b = 0; b < B; b++) {
                    float *const c_to = C::has_c && saved ? to + (T * B + b) * H : nullptr;
                    if (t >= length(b)) {
                        std::memset(to + b * H, 0, static_cast<size_t>(H) * sizeof(float));
                        if constexpr (C::has_c)
                            if (c_to) std::memset(c_to, 0, static_cast<size_t>(H) * sizeof(float));
                        continue;
                    }
                    const int64_t slot = (slot_of(state.cursor[b], t, layer.d) * B + b) * H;
                    xs[rows] = in + b * layer.I;
                    hs[rows] = state.h[l] + slot;
                    cs[rows] = C::has_c ? state.c[l] + slot : nullptr;
                    outs[rows] = to + b * H;
                    c_saved[rows] = c_to;
                    if (++rows == ROWS) compute();
                }
            }
            compute();
        }
        if (copy_to_y)
            std::memcpy(y + at.begin * B * H, out_by_units(at, l, at.begin),
                        static_cast<size_t>((at.end - at.begin) * B * H) * sizeof(float));
    }

    // h and c of d steps ago, and x, to the new h, in out, and the new c, in its place.
    template <class C>
    static void advance(const Layer &layer, int64_t rows, const float *const *x, const float *const *h, float *const *c,
                        float *const *out) {
        for_tiles_by_units<C>(rows, layer.from_input.tiles.count, [&](int64_t row, auto m, int64_t tile, auto n) {
            constexpr int M = decltype(m)::value, N = decltype(n)::value;
            V s[C::sums][M * N];
            sums_by_units<C, M, N>(layer, tile, x + row, h + row, s);
            for (int i = 0; i < M; i++)
                for (int j = 0; j < N; j++) {
                    const int64_t u = (tile + j) * W;
                    const int lanes = static_cast<int>(smallest(W, layer.H - u));
                    V sums[C::sums], c_new;
                    for (int k = 0; k < C::sums; k++) sums[k] = s[k][i * N + j];
                    const V c_old = C::has_c ? load(c[row + i] + u, lanes) : all(0.0f);
                    store(out[row + i] + u, C::forward(sums, load(h[row + i] + u, lanes), c_old, c_new), lanes);
                    if (C::has_c) store(c[row + i] + u, c_new, lanes);
                }
        });
    }

    // ---- by rows

    // Where layer l writes step t of a batch, [H][lane].
    float *out_by_rows(const Block &at, int64_t group, int64_t l, int64_t t) const {
        if (saved) return saved + saved_start(at.batch, l) + t * h_of(l) * W;
        return out[group * stack.layers + l] + (at.in_flight + t - at.begin) * h_of(l) * W;
    }

    template <class C> void by_rows(int worker, int64_t group, int64_t l, int64_t block) {
        const Block at(*this, group, block, false);
        if (at.batch >= batches) return;
        const Layer &layer = stack.layer[l];
        const int64_t H = layer.H, I = layer.I, lane = group * stack.layers + l;
        const Lanes lanes(*this, at.batch);
        float *const h = h_ring[lane], *const c = C::has_c ? c_ring[lane] : nullptr;
        if (at.first) {
            ring_to_lanes(fresh ? nullptr : state.h[l], state.cursor, *this, layer, lanes, h);
            if (C::has_c) ring_to_lanes(fresh ? nullptr : state.c[l], state.cursor, *this, layer, lanes, c);
        }
        for (int64_t t = at.begin; t < at.end; t++) {
            const float *in;
            if (l) {
                in = out_by_rows(at, group, l - 1, t);
            } else {
                float *const to = x_lanes[group] + (t - at.begin) * I * W;
                to_lanes(x + (t * B + lanes.first) * I, I, I, lanes, t, to);
                in = to;
            }
            float *const to = out_by_rows(at, group, l, t), *const h_t = h + t % layer.d * H * W;
            float *const c_t = C::has_c ? c + t % layer.d * H * W : nullptr;
            const bool some_end = t >= lanes.shortest;
            const V made = some_end ? lanes.made(t) : all(1.0f);
            float *const sums = sums_of[worker];
            sums_by_rows<C>(layer, in, h_t, sums);
            for (int64_t u = 0; u < H; u++) {
                V s[C::sums], c_new;
                for (int k = 0; k < C::sums; k++) s[k] = load(sums + (u * C::sums + k) * W);
                const V c_old = C::has_c ? load(c_t + u * W) : all(0.0f);
                store(to + u * W, C::forward(s, load(h_t + u * W), c_old, c_new));
                if constexpr (C::has_c) store(c_t + u * W, some_end ? choose(made, c_new, c_old) : c_new);
            }
            if constexpr (C::has_c)
                if (saved) std::memcpy(to + T * H * W, c_t, static_cast<size_t>(H * W) * sizeof(float));
            if (!some_end)
                std::memcpy(h_t, to, static_cast<size_t>(H * W) * sizeof(float));
            else
                for (int64_t u = 0; u < H; u++) store(h_t + u * W, choose(made, load(to + u * W), load(h_t + u * W)));
            if (l == stack.layers - 1) from_lanes(to, H, H, lanes, t, y + (t * B + lanes.first) * H);
        }
        if (at.last) {
            ring_from_lanes(h, state.cursor, *this, layer, lanes, state.h[l]);
            if (C::has_c) ring_from_lanes(c, state.cursor, *this, layer, lanes, state.c[l]);
        }
    }

    // ---- the sums that a cell's formula reads. The state's products come first: in a step they can be
    // under way while the layer below is still at its activations.

    template <class C, int M, int N>
    static void sums_by_units(const Layer &layer, int64_t tile, const float *const *x, const float *const *h,
                              V (&s)[C::sums][M * N]) {
        for (int k = 0; k < C::sums; k++)
            for (int n = 0; n < N; n++) {
                const V b = load(layer.bias + k * layer.bias_stride + (tile + n) * W);
                for (int m = 0; m < M; m++) s[k][m * N + n] = b;
            }
        add_by_units<C, false, M, N>(s, h, layer.from_state, tile);
        add_by_units<C, true, M, N>(s, x, layer.from_input, tile);
    }

    // All of a step's, [unit][sum][lane]: the activations then have every unit to overlap with, not a tile's only.
    template <class C> static void sums_by_rows(const Layer &layer, const float *x, const float *h, float *to) {
        for_tiles_by_rows<C>(layer.from_input.tiles, [&](int64_t tile, auto size) {
            constexpr int U = decltype(size)::value;
            const int64_t first = layer.from_input.tiles.start(tile);
            V s[C::sums][U];
            for (int k = 0; k < C::sums; k++)
                for (int u = 0; u < U; u++) s[k][u] = all(layer.bias[k * layer.bias_stride + first + u]);
            add_by_rows<C, false, U>(s, h, layer.from_state, tile);
            add_by_rows<C, true, U>(s, x, layer.from_input, tile);
            for (int u = 0; u < U; u++)
                for (int k = 0; k < C::sums; k++) store(to + ((first + u) * C::sums + k) * W, s[k][u]);
        });
    }
};

// The fusion of y in place, a causal convolution over the last outputs: first the present one and the bias, then the earlier
// ones from the earliest on, each tap's products summed by themselves.
inline void fuse(const Stack &stack, const streamdrnn_state &state, int64_t T, const int64_t *lengths, float *y) {
    constexpr int ROWS = 8 * MOST_ROWS;
    const int64_t H = stack.top(), B = state.batch_size, taps = stack.taps;
    const size_t row_bytes = static_cast<size_t>(H) * sizeof(float);
    const float *in[ROWS];
    float *row[ROWS], *fused[ROWS], *product[ROWS];
    int64_t stream[ROWS], rows = 0;
    const int64_t most = smallest(ROWS, stack.step_rows);
    for (int64_t i = 0; i < most; i++) {
        fused[i] = stack.step_scratch + 2 * i * H;
        product[i] = fused[i] + H;
    }
    const auto past = [&](int64_t b, int64_t t, int64_t age) {  // the output of so many steps ago
        return state.fusion + (slot_of(state.cursor[b], t - age, taps) * B + b) * H;
    };
    const auto compute = [&](int64_t t) {
        for (int64_t i = 0; i < rows; i++) in[i] = row[i];
        product_by_units(rows, in, stack.tap[taps - 1], stack.fusion_bias, Onto::BIAS, fused);
        for (int64_t k = 0; k < taps - 1; k++) {
            for (int64_t i = 0; i < rows; i++) in[i] = past(stream[i], t, taps - 1 - k);
            product_by_units(rows, in, stack.tap[k], nullptr, Onto::BIAS, product);
            for (int64_t i = 0; i < rows; i++)
                for (int64_t u = 0; u < H; u++) fused[i][u] += product[i][u];
        }
        for (int64_t i = 0; i < rows; i++) {
            std::memcpy(past(stream[i], t, 0), row[i], row_bytes);
            std::memcpy(row[i], fused[i], row_bytes);
        }
        rows = 0;
    };
    for (int64_t t = 0; t < T; t++) {
        for (int64_t b = 0; b < B; b++) {
            if (t >= (lengths ? lengths[b] : T)) continue;
            stream[rows] = b, row[rows] = y + (t * B + b) * H;
            if (++rows == most) compute(t);
        }
        compute(t);
    }
}

inline void begin_ring(const float *before, int64_t size, float *ring) {
    expect_writes(ring, size);
    if (before)
        std::memcpy(ring, before, static_cast<size_t>(size) * sizeof(float));
    else
        std::memset(ring, 0, static_cast<size_t>(size) * sizeof(float));
}

// Memory is taken when this is made, and nothing is written before run().
inline Forward prepared(const Stack &stack, const streamdrnn_state &state, int64_t T, const float *x,
                        const int64_t *lengths, float *y, float *saved, int threads, bool fresh) {
    threads = useful_threads(threads, T * state.batch_size * stack.multiply_adds());
    return Forward(stack, state, T, x, lengths, y, saved, threads, fresh);
}

inline void move_on(const streamdrnn_state &state, int64_t T, const int64_t *lengths) {
    for (int64_t b = 0; b < state.batch_size; b++) state.cursor[b] += lengths ? lengths[b] : T;
}

inline int forward(const streamdrnn_stack *handle, const streamdrnn_state *before, const streamdrnn_state *after,
                   int64_t T, const float *x, const int64_t *lengths, float *y, float *saved, int threads) {
    const Stack &stack = stack_of(handle);
    const int64_t B = after->batch_size;
    const auto begin = [&] {
        for (int64_t l = 0; l < stack.layers; l++) {
            const int64_t size = stack.layer[l].d * B * stack.layer[l].H;
            if (!before && stack.by_rows && T >= stack.layer[l].d) continue;  // every slot will be written
            begin_ring(before ? before->h[l] : nullptr, size, after->h[l]);
            if (stack.has_c()) begin_ring(before ? before->c[l] : nullptr, size, after->c[l]);
        }
        for (int64_t b = 0; b < B; b++) after->cursor[b] = before ? before->cursor[b] : 0;
    };
    if (T == 0 || B == 0) {
        begin();
        return STREAMDRNN_OK;
    }
    Forward pass = prepared(stack, *after, T, x, lengths, y, saved, threads, !before);
    begin();
    expect_writes(y, T * B * stack.top());
    pass.run();
    move_on(*after, T, lengths);
    return STREAMDRNN_OK;
}

inline bool finite(const float *x, int64_t count) {
    V worst = all(0.0f);  // 0 x is 0, or NaN
    for (; count > W; x += W, count -= W) worst = fma(load(x), all(0.0f), worst);
    if (count > 0) worst = fma(load(x, static_cast<int>(count)), all(0.0f), worst);
    return sum(worst) == 0;
}

inline int run(const streamdrnn_live *live, int64_t T, const float *x, const int64_t *lengths, float *y, int threads) {
    const Stack &stack = stack_of(live->stack);
    const int64_t B = live->state.batch_size, I = stack.layer[0].I;
    if (!lengths) {
        if (!finite(x, T * B * I)) return STREAMDRNN_NOT_FINITE;
    } else {
        for (int64_t t = 0; t < T; t++)
            for (int64_t b = 0; b < B; b++)
                if (t < lengths[b] && !finite(x + (t * B + b) * I, I)) return STREAMDRNN_NOT_FINITE;
    }
    if (T == 0 || B == 0) return STREAMDRNN_OK;
    prepared(stack, live->state, T, x, lengths, y, nullptr, threads, false).run();
    if (stack.taps) fuse(stack, live->state, T, lengths, y);
    move_on(live->state, T, lengths);
    return STREAMDRNN_OK;
}

inline int64_t saved_size(const streamdrnn_stack *handle, int64_t T, int64_t B) {
    if (T == 0 || B == 0) return 0;
    const Chunk chunk(stack_of(handle), T, B, nullptr, nullptr, false);
    return chunk.batches * chunk.saved_per_batch();
}

}  // namespace streamdrnn::STREAMDRNN_LEVEL
