// Everything above, as the table of one level.
#pragma once
#include "backward.h"
#include "linear.h"

#include <ctime>

namespace streamdrnn::STREAMDRNN_LEVEL {

inline double multiply_adds_per_second(double seconds) {
    constexpr int CHAINS = 12;  // enough to hide the latency, few enough for the compiler to keep them in registers
    V s[CHAINS];
    for (V &v : s) v = all(0.5f);
    const V scale = all(0.999f);
    const auto now = [] {
        timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
    };
    double best = 0;
    for (const double end = now() + seconds; now() < end;) {
        constexpr int PASSES = 20000;
        const double start = now();
        for (int i = 0; i < PASSES; i++)
            for (V &v : s) v = fma(v, scale, scale);
        const double rate = PASSES * CHAINS * W / (now() - start);
        best = rate > best ? rate : best;
    }
    float total = 0;
    for (const V &v : s) total += sum(v);
    return total > 0 ? best : 0;  // what is looked at cannot be optimised away
}

inline streamdrnn_stack *new_stack(int, int64_t, const streamdrnn_layer *, int64_t, const float *, const float *,
                                   int64_t, int64_t, int);

inline void free_stack(streamdrnn_stack *stack) { delete static_cast<Stack *>(stack); }

constexpr Kernels KERNELS{
    STREAMDRNN_LEVEL_NAME,   new_stack, free_stack, saved_size, forward, run, backward, linear, linear_backward,
    multiply_adds_per_second};

inline streamdrnn_stack *new_stack(int cell, int64_t layers, const streamdrnn_layer *layer, int64_t taps,
                                   const float *fusion_weight, const float *fusion_bias, int64_t steps,
                                   int64_t batch_size, int gradients) {
    return stack_new(&KERNELS, cell, layers, layer, taps, fusion_weight, fusion_bias, steps, batch_size, gradients);
}

}  // namespace streamdrnn::STREAMDRNN_LEVEL
