// A chunk through the stack, forward.
#pragma once
#include "step.h"

namespace streamdrnn::STREAMDRNN_LEVEL {

struct Forward : Chunk {
    const Rings rings;
    float *y, *saved;
    Scratch scratch;
    Slots<float *> out;             // per group and layer what the next layer reads, where it is not saved
    Slots<float *> h_ring, c_ring;  // by rows: the rings of the bundle at work, [slot][H][lane]
    Slots<float *> x_lanes;         // by rows: per group a block of x, [step][I][lane]
    Slots<float *> sums_of;         // by rows: per worker the sums of one step
    Slots<float *> copies;          // per worker, of inputs as the weights take them
    int threads;
    bool fresh;  // by rows: the streams are before their first step, and their rings are not read

    // In the scratch that is given, as far as it goes.
    Forward(const Stack &stack, const Rings &rings, int64_t T, const float *x, const int64_t *lengths, float *y,
            float *saved, int most_threads, bool fresh, float *memory = nullptr, int64_t memory_floats = 0)
        : Chunk(stack, T, rings.B, x, lengths, false), rings(rings), y(y), saved(saved), scratch(memory, memory_floats),
          threads(useful_threads(most_threads, T * B * stack.multiply_adds())), fresh(fresh) {}

    // Whether there is memory for the pass; nothing is written before run().
    bool take_memory() {
        return scratch.lay_out([this] { lay_out(); });
    }
    // The floats that passes over chunks of at most this size take on one thread.
    static int64_t floats(const Stack &stack, int64_t T, int64_t B) {
        Forward pass(stack, {B, nullptr, nullptr, nullptr, nullptr}, T, nullptr, nullptr, nullptr, nullptr, 1, false);
        return pass.scratch.measure([&] { pass.lay_out(); });
    }

    void lay_out() {
        const int64_t stages = groups * stack.layers;
        scratch.take(out, stages), scratch.take(copies, threads);
        for (int i = 0; i < threads; i++) scratch.take(copies, i, stack.copy_floats);
        if (stack.by_rows) {
            scratch.take(h_ring, stages), scratch.take(c_ring, stages);
            scratch.take(x_lanes, groups), scratch.take(sums_of, threads);
            for (int64_t g = 0; g < groups; g++) scratch.take(x_lanes, g, steps_per_block * stack.layer[0].I * W);
            for (int i = 0; i < threads; i++) scratch.take(sums_of, i, stack.sums() * stack.widest() * W);
        }
        for (int64_t i = 0; i < stages; i++) {
            const Layer &layer = stack.layer[i % stack.layers];
            const bool to_y = !stack.by_rows && i == stack.layers - 1;
            if (!saved && !to_y) scratch.take(out, i, steps_in_flight() * streams_per_bundle * layer.H);
            if (!stack.by_rows) continue;
            const int64_t ring = smallest(T, layer.d) * layer.H * W;
            scratch.take(h_ring, i, ring), scratch.take(c_ring, i, stack.has_c() ? ring : 0);
        }
    }

    void run() {
        if (saved) expect_writes(saved, bundles * saved_per_bundle());
        const Task task = [](void *self, int worker, int64_t group, int64_t layer, int64_t block) {
            Forward &f = *static_cast<Forward *>(self);
            if (f.stack.by_rows)
                return with_cell(f.stack.cell, [&](auto c) { f.by_rows<decltype(c)>(worker, group, layer, block); });
            with_cell(f.stack.cell, f.stack.weights, [&](auto c) { f.by_units<decltype(c)>(worker, layer, block); });
        };
        run_pipelines(threads, groups, stack.layers, blocks(), task, this);
    }

    // ---- by units

    // Where layer l writes step t of all streams, (B, H).
    float *out_by_units(const Block &at, int64_t l, int64_t t) const {
        const int64_t H = h_of(l);
        if (saved) return saved + saved_start(0, l) + t * B * H;
        if (l == stack.layers - 1) return y + t * B * H;
        return out[l] + (at.in_flight + t - at.begin) * B * H;
    }

    template <class C> void by_units(int worker, int64_t l, int64_t block) {
        constexpr int64_t ROWS = ROWS_TOGETHER;
        const Layer &layer = stack.layer[l];
        const int64_t H = layer.H;
        const Block at(*this, 0, block, false);
        const bool copy_to_y = saved && l == stack.layers - 1;
        const float *xs[ROWS];
        float *hs[ROWS], *cs[ROWS], *outs[ROWS], *c_saved[ROWS];
        int64_t rows = 0;
        bool backwards = false;
        const auto compute = [&] {
            if (rows == 1) {
                step_layer<C>(layer, backwards, xs[0], hs[0], cs[0], outs[0], copies[worker]);
                copy(hs[0], H, outs[0]);
                backwards = !backwards;
            } else {
                advance<C>(layer, rows, xs, hs, cs, outs, copies[worker]);
                for (int64_t i = 0; i < rows; i++) copy(outs[i], H, hs[i]);
            }
            if constexpr (C::has_c)
                for (int64_t i = 0; saved && i < rows; i++) copy(cs[i], H, c_saved[i]);
            rows = 0;
        };
        for (int64_t s = at.begin; s < at.end; s += layer.d) {  // d steps in a row do not see one another
            for (int64_t t = s; t < smallest(s + layer.d, at.end); t++) {
                const float *in = l ? out_by_units(at, l - 1, t) : x + t * B * layer.I;
                float *const to = out_by_units(at, l, t);
                for (int64_t b = 0; b < B; b++) {
                    float *const c_to = C::has_c && saved ? to + (T * B + b) * H : nullptr;
                    if (t >= length(b)) {
                        clear(to + b * H, H);
                        if constexpr (C::has_c)
                            if (c_to) clear(c_to, H);
                        continue;
                    }
                    const int64_t slot = slot_of(rings.cursor[b], t, layer.d);
                    xs[rows] = in + b * layer.I;
                    hs[rows] = rings.row(rings.h[l], slot, b, H);
                    cs[rows] = C::has_c ? rings.row(rings.c[l], slot, b, H) : nullptr;
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
                        float *const *out, float *copies) {
        const float *x_rows[ROWS_TOGETHER], *h_rows[ROWS_TOGETHER];
        const auto h_in = as_taken<C>(rows, layer.H, h, copies, h_rows);
        const auto x_in = as_taken<C>(rows, layer.I, x, copies + copy_size<C>(layer.H), x_rows);
        for_sums_by_units<C>(layer, rows, x_in, h_in, [&](int64_t row, auto m, int64_t tile, auto n, const auto &s) {
            constexpr int M = decltype(m)::value, N = decltype(n)::value;
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
            ring_to_lanes(fresh ? nullptr : rings.h[l], rings, *this, layer, bundle, h);
            if (C::has_c) ring_to_lanes(fresh ? nullptr : rings.c[l], rings, *this, layer, bundle, c);
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
            ring_from_lanes(h, rings, *this, layer, bundle, rings.h[l]);
            if (C::has_c) ring_from_lanes(c, rings, *this, layer, bundle, rings.c[l]);
        }
    }
};

}  // namespace streamdrnn::STREAMDRNN_LEVEL
