// A chunk through the stack, forward.
#pragma once
#include "chunk.h"

namespace streamdrnn::STREAMDRNN_LEVEL {

// Memory is taken when this is made, and nothing is written before run().
struct Forward : Chunk {
    const streamdrnn_state &state;
    float *y, *saved;
    Scratch scratch;
    Array<float *> out;             // per group and layer what the next layer reads, where it is not saved
    Array<float *> h_ring, c_ring;  // by rows: the rings of the bundle at work, [slot][H][lane]
    Array<float *> x_lanes;         // by rows: per group a block of x, [step][I][lane]
    Array<float *> sums_of;         // by rows: per worker the sums of one step
    int threads;
    bool fresh;        // by rows: the streams are before their first step, and their rings are not read
    bool single_step;  // everything is in the stack's scratch: no memory is taken

    Forward(const Stack &stack, const streamdrnn_state &state, int64_t T, const float *x, const int64_t *lengths,
            float *y, float *saved, int most_threads, bool fresh)
        : Chunk(stack, T, state.batch_size, x, lengths, false), state(state), y(y), saved(saved),
          threads(useful_threads(most_threads, T * B * stack.multiply_adds())), fresh(fresh),
          single_step(T == 1 && !stack.by_rows && !saved && B <= stack.step_rows) {
        if (single_step) return;
        if (saved) expect_writes(saved, bundles * saved_per_bundle());
        const int64_t stages = groups * stack.layers;
        out = Array<float *>(stages), h_ring = Array<float *>(stages), c_ring = Array<float *>(stages);
        x_lanes = Array<float *>(groups), sums_of = Array<float *>(threads);
        scratch.lay_out([&] {
            for (int64_t i = 0; i < stages; i++) {
                const Layer &layer = stack.layer[i % stack.layers];
                const bool to_y = !stack.by_rows && i == stack.layers - 1;
                if (!saved && !to_y) out[i] = scratch.take(steps_in_flight() * streams_per_bundle * layer.H);
                if (!stack.by_rows) continue;
                const int64_t ring = smallest(T, layer.d) * layer.H * W;
                h_ring[i] = scratch.take(ring), c_ring[i] = scratch.take(stack.has_c() ? ring : 0);
            }
            if (!stack.by_rows) return;
            for (int64_t g = 0; g < groups; g++) x_lanes[g] = scratch.take(steps_per_block * stack.layer[0].I * W);
            for (int i = 0; i < threads; i++) sums_of[i] = scratch.take(stack.sums() * stack.widest() * W);
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
        run_pipelines(threads, groups, stack.layers, blocks(), task, this);
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
                    const int inside = in_vector(layer.H - u);
                    V sums[C::sums], c_new;
                    for (int k = 0; k < C::sums; k++) sums[k] = s[k][i * N + j];
                    const V c_old = C::has_c ? load(c[row + i] + u, inside) : all(0.0f);
                    store(out[row + i] + u, C::forward(sums, load(h[row + i] + u, inside), c_old, c_new), inside);
                    if (C::has_c) store(c[row + i] + u, c_new, inside);
                }
        });
    }

    // ---- by rows

    // Where layer l writes step t of a bundle, [H][lane].
    float *out_by_rows(const Block &at, int64_t group, int64_t l, int64_t t) const {
        if (saved) return saved + saved_start(at.bundle, l) + t * h_of(l) * W;
        return out[group * stack.layers + l] + (at.in_flight + t - at.begin) * h_of(l) * W;
    }

    template <class C> void by_rows(int worker, int64_t group, int64_t l, int64_t block) {
        const Block at(*this, group, block, false);
        if (at.bundle >= bundles) return;
        const Layer &layer = stack.layer[l];
        const int64_t H = layer.H, I = layer.I, stage = stage_of(group, l);
        const Bundle bundle(*this, at.bundle);
        float *const h = h_ring[stage], *const c = C::has_c ? c_ring[stage] : nullptr;
        if (at.first) {
            ring_to_lanes(fresh ? nullptr : state.h[l], state.cursor, *this, layer, bundle, h);
            if (C::has_c) ring_to_lanes(fresh ? nullptr : state.c[l], state.cursor, *this, layer, bundle, c);
        }
        for (int64_t t = at.begin; t < at.end; t++) {
            const float *in;
            if (l) {
                in = out_by_rows(at, group, l - 1, t);
            } else {
                float *const to = x_lanes[group] + (t - at.begin) * I * W;
                to_lanes(x + (t * B + bundle.first) * I, I, I, bundle, t, to);
                in = to;
            }
            float *const to = out_by_rows(at, group, l, t), *const h_t = h + t % layer.d * H * W;
            float *const c_t = C::has_c ? c + t % layer.d * H * W : nullptr;
            const bool some_end = t >= bundle.shortest;
            const V made = some_end ? bundle.made(t) : all(1.0f);
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
            if (l == stack.layers - 1) from_lanes(to, H, H, bundle, t, y + (t * B + bundle.first) * H);
        }
        if (at.last) {
            ring_from_lanes(h, state.cursor, *this, layer, bundle, state.h[l]);
            if (C::has_c) ring_from_lanes(c, state.cursor, *this, layer, bundle, state.c[l]);
        }
    }
};

}  // namespace streamdrnn::STREAMDRNN_LEVEL
