// The functions of the C interface at one level of instructions, under their names there, and the table of them.
#pragma once
#include "backward.h"
#include "forward.h"
#include "fusion.h"
#include "linear.h"
#include "peak.h"

namespace streamdrnn::STREAMDRNN_LEVEL {

inline streamdrnn_stack *stack_new(int cell, int64_t layers, const streamdrnn_layer *layer, int64_t taps,
                                   const float *fusion_weight, const float *fusion_bias, int64_t steps,
                                   int64_t batch_size, int gradients) {
    return new Stack(cell, layers, layer, taps, fusion_weight, fusion_bias, steps, batch_size, gradients);
}

inline void stack_free(streamdrnn_stack *stack) { delete static_cast<Stack *>(stack); }

inline int64_t saved_size(const streamdrnn_stack *handle, int64_t T, int64_t B) {
    if (T == 0 || B == 0) return 0;
    const Chunk chunk(stack_of(handle), T, B, nullptr, nullptr, false);
    return chunk.bundles * chunk.saved_per_bundle();
}

inline void begin_ring(const float *before, int64_t size, float *ring) {
    expect_writes(ring, size);
    if (before)
        std::memcpy(ring, before, static_cast<size_t>(size) * sizeof(float));
    else
        std::memset(ring, 0, static_cast<size_t>(size) * sizeof(float));
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
    Forward pass(stack, *after, T, x, lengths, y, saved, threads, !before);
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
    Forward(stack, live->state, T, x, lengths, y, nullptr, threads, false).run();
    if (stack.taps) fuse(stack, live->state, T, lengths, y);
    move_on(live->state, T, lengths);
    return STREAMDRNN_OK;
}

inline int backward(const streamdrnn_stack *handle, const streamdrnn_state *before, int64_t T, const float *x,
                    const int64_t *lengths, const float *saved, const float *dy, const streamdrnn_state *after,
                    float *dx, const streamdrnn_layer_gradients *gradients, int threads) {
    const Stack &stack = stack_of(handle);
    if (T == 0 || before->batch_size == 0) {
        const auto clear = [](float *to, int64_t n) {
            if (to) std::memset(to, 0, static_cast<size_t>(n) * sizeof(float));
        };
        for (int64_t l = 0; l < stack.layers; l++) {
            const int64_t K = stack.gates() * stack.layer[l].H;
            clear(gradients[l].w_ih, K * stack.layer[l].I), clear(gradients[l].w_hh, K * stack.layer[l].H);
            clear(gradients[l].b_ih, K), clear(gradients[l].b_hh, K);
        }
        return STREAMDRNN_OK;
    }
    Backward pass(stack, *before, T, x, lengths, saved, dy, *after, dx, threads);
    pass.run();
    with_cell(stack.cell, [&](auto c) {
        for (int64_t l = 0; l < stack.layers; l++) pass.template write<decltype(c)>(l, gradients[l]);
    });
    return STREAMDRNN_OK;
}

constexpr Kernels KERNELS{
    STREAMDRNN_LEVEL_NAME,    stack_new, stack_free, saved_size, forward, run, backward, linear, linear_backward,
    multiply_adds_per_second,
};

}  // namespace streamdrnn::STREAMDRNN_LEVEL
