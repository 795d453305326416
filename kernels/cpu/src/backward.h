// A chunk through the stack, backward.
//
// The forward pass saved states only. Per block of time, from the last to the first, a layer computes its gates again
// from them and folds each cell's derivatives into factors that do not depend on the incoming gradient. Then the
// recurrence is linear: factors times the gradient of h, and one product with W_hh. The gradients of the input and the
// weights follow for the block as a whole.
#pragma once
#include "chunk.h"

namespace streamdrnn::STREAMDRNN_LEVEL {

struct Backward : Chunk {
    const Rings before, after;
    bool started;  // the rings before the chunk are given, not zeros
    const float *saved, *dy;
    float *dx;
    int threads;

    Scratch scratch;
    Slots<float *> factors;                   // per worker: a block's, [step or row][kept H][lane]
    Slots<float *> outer;                     // per worker, by units: see outer_by_units
    Slots<float *> block_x, block_dy;         // per worker, by rows: x and dy, or dx, of a block
    Slots<float *> step_sums;                 // per worker, by rows: the sums of one step
    Slots<const float **> xs, hs;             // per worker: where each row's x and h of d steps ago are
    Slots<float **> rows_of;                  // per worker: scratch for pointers
    Slots<float *> dh;                        // per group and layer: gradients from the layer above, in flight
    Slots<float *> h0, c0, dh_ring, dc_ring;  // by rows, per group and layer: the rings of the bundle at work
    Slots<float *> sums;                      // per group and layer: gradients of the weights
    float *zeros = nullptr;                   // the h and c before the first step

    Backward(const Stack &stack, const streamdrnn_state &before, int64_t T, const float *x, const int64_t *lengths,
             const float *saved, const float *dy, const streamdrnn_state &after, float *dx, int most_threads)
        : Chunk(stack, T, before.batch_size, x, lengths, true), before(rings_of(before)), after(rings_of(after)),
          started(before.h != nullptr), saved(saved), dy(dy), dx(dx),
          threads(useful_threads(most_threads, 3 * T * B * stack.multiply_adds())) {}

    // Whether there is memory for the pass; nothing is written before run().
    bool take_memory() {
        const int64_t stages = groups * stack.layers, lanes = stack.by_rows ? W : 1, I = stack.layer[0].I;
        const int64_t rows = steps_per_block * (stack.by_rows ? 1 : B);
        const bool taken = scratch.lay_out([&] {
            zeros = scratch.take(stack.widest());
            scratch.take(factors, threads), scratch.take(outer, threads), scratch.take(step_sums, threads);
            scratch.take(block_x, threads), scratch.take(block_dy, threads);
            scratch.take(xs, threads), scratch.take(hs, threads), scratch.take(rows_of, threads);
            scratch.take(dh, stages), scratch.take(sums, stages);
            scratch.take(h0, stages), scratch.take(c0, stages);
            scratch.take(dh_ring, stages), scratch.take(dc_ring, stages);
            for (int i = 0; i < threads; i++) {
                scratch.take(xs, i, rows), scratch.take(hs, i, rows), scratch.take(rows_of, i, 4 * rows);
                scratch.take(factors, i, rows * kept() * stack.widest() * lanes);
                if (!stack.by_rows) scratch.take(outer, i, outer_scratch(largest(I, stack.widest())));
                if (!stack.by_rows) continue;
                scratch.take(step_sums, i, stack.sums() * stack.widest() * W);
                scratch.take(block_x, i, rows * I * W);
                scratch.take(block_dy, i, rows * largest(stack.top(), I) * W);
            }
            for (int64_t i = 0; i < stages; i++) {
                const Layer &layer = stack.layer[i % stack.layers];
                if (i % stack.layers < stack.layers - 1)
                    scratch.take(dh, i, steps_in_flight() * streams_per_bundle * layer.H);
                scratch.take(sums, i, sums_size(layer));
                if (!stack.by_rows) continue;
                const int64_t ring = smallest(T, layer.d) * layer.H * W, c_ring = stack.has_c() ? ring : 0;
                scratch.take(h0, i, ring), scratch.take(dh_ring, i, ring);
                scratch.take(c0, i, c_ring), scratch.take(dc_ring, i, c_ring);
            }
        });
        if (!taken) return false;
        clear(zeros, stack.widest());
        for (int64_t i = 0; i < stages; i++) clear(sums[i], sums_size(stack.layer[i % stack.layers]));
        return true;
    }

    void run() {
        if (dx) expect_writes(dx, T * B * stack.layer[0].I);
        const Task task = [](void *self, int worker, int64_t group, int64_t from_top, int64_t block) {
            Backward &b = *static_cast<Backward *>(self);
            const int64_t l = b.stack.layers - 1 - from_top;
            with_cell(b.stack.cell, [&](auto c) {
                using C = decltype(c);
                b.stack.by_rows ? b.by_rows<C>(worker, group, l, block) : b.by_units<C>(worker, l, block);
            });
        };
        run_pipelines(threads, groups, stack.layers, blocks(), task, this);
    }

    int64_t kept() const {
        return with_cell(stack.cell, [](auto c) { return decltype(c)::kept; });
    }

    // Per layer: [k][gate, unit] for the input and for the state, and the sums of all of a step's gradients of gates.
    int64_t sums_size(const Layer &layer) const { return ((layer.I + layer.H) * stack.gates() + kept()) * layer.H; }

    // ---- by units

    template <class C> void by_units(int worker, int64_t l, int64_t block) {
        const Layer &layer = stack.layer[l];
        const Block at(*this, 0, block, true);
        const int64_t H = layer.H, I = layer.I, d = layer.d, rows = (at.end - at.begin) * B, stride = C::kept * H;
        const float *const saved_h = saved + saved_start(0, l), *const saved_c = saved_h + T * B * H;
        const float *const in = l ? saved + saved_start(0, l - 1) : x;
        const auto place = [&](float *ring, int64_t t, int64_t b) {
            return before.row(ring, slot_of(before.cursor[b], t, d), b, H);
        };
        float *const f = factors[worker];
        const float **const x_rows = xs[worker], **const h_rows = hs[worker];
        const int64_t most = steps_per_block * B;
        float **const f_rows = rows_of[worker], **const to_rows = f_rows + most;
        float **const dy_rows = f_rows + 2 * most, **const dc_rows = f_rows + 3 * most;

        for (int64_t r = 0; r < rows; r++) {
            const int64_t t = at.begin + r / B, b = r % B;
            x_rows[r] = in + (t * B + b) * I;
            h_rows[r] = t < d ? (started ? place(before.h[l], t, b) : zeros) : saved_h + ((t - d) * B + b) * H;
        }
        const auto keep_factors = [&](int64_t row, auto m, int64_t tile, auto n, const auto &s) {
            constexpr int M = decltype(m)::value, N = decltype(n)::value;
            for (int i = 0; i < M; i++)
                for (int j = 0; j < N; j++) {
                    const int64_t u = (tile + j) * W, r = row + i, t = at.begin + r / B, b = r % B;
                    const int inside = in_vector(H - u);
                    V sum[C::sums], kept[C::kept], c_old = all(0.0f), c_new = all(0.0f);
                    for (int k = 0; k < C::sums; k++) sum[k] = s[k][i * N + j];
                    if (C::has_c) {
                        const float *first_c = started ? place(before.c[l], t, b) : zeros;
                        c_old = load((t < d ? first_c : saved_c + ((t - d) * B + b) * H) + u, inside);
                        c_new = load(saved_c + (t * B + b) * H + u, inside);
                    }
                    C::factors(sum, load(h_rows[r] + u, inside), c_old, c_new, kept);
                    for (int k = 0; k < C::kept; k++) store(f + r * stride + k * H + u, kept[k], inside);
                }
        };
        for_sums_by_units<C>(layer, rows, x_rows, h_rows, keep_factors);

        for (int64_t end = at.end; end > at.begin;) {
            const int64_t begin = largest(at.begin, end - d);
            int64_t count = 0;
            for (int64_t t = begin; t < end; t++)
                for (int64_t b = 0; b < B; b++) {
                    float *const row = f + ((t - at.begin) * B + b) * stride;
                    if (t >= length(b)) {
                        std::memset(row, 0, static_cast<size_t>(stride) * sizeof(float));
                        continue;
                    }
                    f_rows[count] = row, to_rows[count] = place(after.h[l], t, b);
                    dc_rows[count] = C::has_c ? place(after.c[l], t, b) : nullptr;
                    dy_rows[count++] = const_cast<float *>(dy_by_units(at, l, t)) + b * H;
                }
            for (int64_t r = 0; r < count; r++)
                for (int64_t u = 0; u < H; u += W) {
                    const int inside = in_vector(H - u);
                    V kept[C::kept], dh_old, dc_old = all(0.0f);
                    for (int k = 0; k < C::kept; k++) kept[k] = load(f_rows[r] + k * H + u, inside);
                    const V dc = C::has_c ? load(dc_rows[r] + u, inside) : all(0.0f);
                    C::gradients(kept, load(dy_rows[r] + u, inside) + load(to_rows[r] + u, inside), dc, dh_old, dc_old);
                    for (int k = 0; k < C::input_factor + C::gates; k++) store(f_rows[r] + k * H + u, kept[k], inside);
                    store(to_rows[r] + u, dh_old, inside);
                    if (C::has_c) store(dc_rows[r] + u, dc_old, inside);
                }
            product_by_units(count, f_rows, layer.to_state, nullptr, Onto::OUTPUT, to_rows);
            end = begin;
        }

        if (l || dx) {
            for (int64_t r = 0; r < rows; r++) {
                f_rows[r] = f + r * stride + C::input_factor * H;
                to_rows[r] = (l ? dh[l - 1] + at.in_flight * B * I : dx + at.begin * B * I) + r * I;
            }
            product_by_units(rows, f_rows, layer.to_input, nullptr, Onto::BIAS, to_rows);
        }
        float *const total = sums[l], *const state_total = total + I * C::gates * H;
        outer_by_units(rows, x_rows, I, f + C::input_factor * H, stride, C::gates * H, outer[worker], total);
        outer_by_units(rows, h_rows, H, f, stride, C::gates * H, outer[worker], state_total);
        float *const bias_total = state_total + H * C::gates * H;
        for (int64_t j = 0; j < (C::input_factor + C::gates) * H; j += W) {
            const int inside = in_vector((C::input_factor + C::gates) * H - j);
            V sum = all(0.0f);
            for (int64_t r = 0; r < rows; r++) sum = sum + load(f + r * stride + j, inside);
            store(bias_total + j, load(bias_total + j, inside) + sum, inside);
        }
    }

    const float *dy_by_units(const Block &at, int64_t l, int64_t t) const {
        if (l == stack.layers - 1) return dy + t * B * h_of(l);
        return dh[l] + (at.in_flight + t - at.begin) * B * h_of(l);
    }

    // ---- by rows

    template <class C> void by_rows(int worker, int64_t group, int64_t l, int64_t block) {
        const Block at(*this, group, block, true);
        if (at.bundle >= bundles) return;
        const Layer &layer = stack.layer[l];
        const int64_t H = layer.H, I = layer.I, d = layer.d, stage = stage_of(group, l);
        const int64_t steps = at.end - at.begin, stride = C::kept * H * W;
        const Bundle bundle(*this, at.bundle);
        const float *const saved_h = saved + saved_start(at.bundle, l), *const saved_c = saved_h + T * H * W;
        float *const dh_old = dh_ring[stage], *const dc_old = C::has_c ? dc_ring[stage] : nullptr;
        if (at.last) {
            ring_to_lanes(started ? before.h[l] : nullptr, before, *this, layer, bundle, h0[stage]);
            ring_to_lanes(after.h[l], before, *this, layer, bundle, dh_old);
            if (C::has_c) {
                ring_to_lanes(started ? before.c[l] : nullptr, before, *this, layer, bundle, c0[stage]);
                ring_to_lanes(after.c[l], before, *this, layer, bundle, dc_old);
            }
        }
        float *const f = factors[worker];
        const float **const x_steps = xs[worker], **const h_steps = hs[worker];
        for (int64_t i = 0; i < steps; i++) {
            const int64_t t = at.begin + i;
            if (l) {
                x_steps[i] = saved + saved_start(at.bundle, l - 1) + t * I * W;
            } else {
                float *const to = block_x[worker] + i * I * W;
                to_lanes(x + (t * B + bundle.first) * I, I, I, bundle, t, to);
                x_steps[i] = to;
            }
            h_steps[i] = t < d ? h0[stage] + t * H * W : saved_h + (t - d) * H * W;
            const float *c_step = nullptr;
            if (C::has_c) c_step = t < d ? c0[stage] + t * H * W : saved_c + (t - d) * H * W;
            float *const sums_t = step_sums[worker];
            sums_by_rows<C>(layer, x_steps[i], h_steps[i], sums_t);
            for (int64_t u = 0; u < H; u++) {
                V s[C::sums], kept[C::kept], c = all(0.0f), c_new = all(0.0f);
                for (int k = 0; k < C::sums; k++) s[k] = load(sums_t + (u * C::sums + k) * W);
                if (C::has_c) c = load(c_step + u * W), c_new = load(saved_c + (t * H + u) * W);
                C::factors(s, load(h_steps[i] + u * W), c, c_new, kept);
                for (int k = 0; k < C::kept; k++) store(f + i * stride + (k * H + u) * W, kept[k]);
            }
        }

        const bool top = l == stack.layers - 1;
        float *const dh_new = top ? block_dy[worker] : dh[stage] + at.in_flight * H * W;
        for (int64_t i = steps - 1; i >= 0; i--) {
            const int64_t t = at.begin + i;
            if (top) to_lanes(dy + (t * B + bundle.first) * H, H, H, bundle, t, dh_new + i * H * W);
            float *const to = dh_old + t % d * H * W, *const c_to = C::has_c ? dc_old + t % d * H * W : nullptr;
            // A lane that did not make the step passes its gradients on as they are.
            const bool some_end = t >= bundle.shortest;
            const V made = some_end ? bundle.made(t) : all(1.0f), none = all(0.0f);
            float *const f_t = f + i * stride;
            for (int64_t u = 0; u < H * W; u += W) {
                V kept[C::kept], old, c = none;
                for (int k = 0; k < C::kept; k++) kept[k] = load(f_t + k * H * W + u);
                const V carried = load(to + u), c_carried = C::has_c ? load(c_to + u) : none;
                V grad = load(dh_new + i * H * W + u) + carried, c_grad = c_carried;
                if (some_end) grad = choose(made, grad, none), c_grad = choose(made, c_grad, none);
                C::gradients(kept, grad, c_grad, old, c);
                for (int k = 0; k < C::input_factor + C::gates; k++) store(f_t + k * H * W + u, kept[k]);
                store(to + u, some_end ? choose(made, old, carried) : old);
                if (C::has_c) store(c_to + u, some_end ? choose(made, c, c_carried) : c);
            }
            product_by_rows(f_t, layer.to_state, true, to);
        }

        if (l || dx)
            for (int64_t i = 0; i < steps; i++) {
                float *const to = l ? dh[stage - 1] + (at.in_flight + i) * I * W : block_dy[worker];
                product_by_rows(f + i * stride + C::input_factor * H * W, layer.to_input, false, to);
                if (!l) from_lanes(to, I, I, bundle, at.begin + i, dx + ((at.begin + i) * B + bundle.first) * I);
            }
        float *const total = sums[stage], *const state_total = total + I * C::gates * H;
        outer_by_rows(steps, x_steps, I, f + C::input_factor * H * W, stride, C::gates * H, total);
        outer_by_rows(steps, h_steps, H, f, stride, C::gates * H, state_total);
        float *const bias_total = state_total + H * C::gates * H;
        for (int64_t j = 0; j < (C::input_factor + C::gates) * H; j++) {
            V sum_of = all(0.0f);
            for (int64_t i = 0; i < steps; i++) sum_of = sum_of + load(f + i * stride + j * W);
            bias_total[j] += sum(sum_of);
        }
        if (at.first) {
            ring_from_lanes(dh_old, before, *this, layer, bundle, after.h[l]);
            if (C::has_c) ring_from_lanes(dc_old, before, *this, layer, bundle, after.c[l]);
        }
    }

    // The groups' sums, in their order, in torch's layout.
    template <class C> void write(int64_t l, const streamdrnn_layer_gradients &to) {
        const Layer &layer = stack.layer[l];
        const int64_t I = layer.I, H = layer.H, K = C::gates * H;
        float *const total = sums[l];
        for (int64_t g = 1; g < groups; g++) {
            const float *const more = sums[g * stack.layers + l];
            for (int64_t i = 0; i < sums_size(layer); i++) total[i] += more[i];
        }
        const float *const state = total + I * K, *const bias = state + H * K;
        transpose(total, K, I, K, to.w_ih);
        if (to.b_ih) std::memcpy(to.b_ih, bias + C::input_factor * H, static_cast<size_t>(K) * sizeof(float));
        for (int g = 0; g < C::gates; g++) {
            const int64_t row = C::gate(g) * H;
            transpose(state + g * H, K, H, H, to.w_hh + row * H);
            if (to.b_hh) std::memcpy(to.b_hh + row, bias + g * H, static_cast<size_t>(H) * sizeof(float));
        }
    }
};

}  // namespace streamdrnn::STREAMDRNN_LEVEL
