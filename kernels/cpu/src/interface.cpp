// The C interface: picks the level of instructions, and turns lack of memory into a code.
#include "kernels.h"

#include <cstring>
#include <new>

namespace {

using streamdrnn::Kernels;

// The best kernels that this build has, this processor runs and the caller wants.
template <class F> const Kernels *best(F wanted) {
    const struct {
        const Kernels *kernels;
        bool runs;
    } levels[] = {
#if defined(__x86_64__)
        {streamdrnn::avx512_kernels(), __builtin_cpu_supports("avx512f") != 0},
        {streamdrnn::avx2_kernels(), __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
#endif
        {streamdrnn::portable_kernels(), true},
    };
    for (const auto &level : levels)
        if (level.kernels && level.runs && wanted(*level.kernels)) return level.kernels;
    return nullptr;
}

const Kernels *chosen = best([](const Kernels &) { return true; });

// Memory is taken before anything is written.
template <class F> int with_memory(F f) {
    try {
        return f();
    } catch (const std::bad_alloc &) {
        return STREAMDRNN_NO_MEMORY;
    }
}

}  // namespace

extern "C" {

const char *streamdrnn_level(void) { return chosen->level; }

int streamdrnn_set_level(const char *name) {
    const Kernels *const kernels = best([&](const Kernels &k) { return std::strcmp(k.level, name) == 0; });
    if (kernels) chosen = kernels;
    return kernels != nullptr;
}

streamdrnn_stack *streamdrnn_stack_new(int cell, int64_t layers, const streamdrnn_layer *layer, int64_t taps,
                                       const float *fusion_weight, const float *fusion_bias, int64_t steps,
                                       int64_t batch_size, int gradients) {
    const Kernels *const kernels = chosen;
    streamdrnn_stack *stack = nullptr;
    with_memory([&] {
        stack = kernels->stack_new(cell, layers, layer, taps, fusion_weight, fusion_bias, steps, batch_size, gradients);
        stack->kernels = kernels;
        return STREAMDRNN_OK;
    });
    return stack;
}

void streamdrnn_stack_free(streamdrnn_stack *stack) {
    if (stack) stack->kernels->stack_free(stack);
}

int64_t streamdrnn_saved_size(const streamdrnn_stack *stack, int64_t steps, int64_t batch_size) {
    return stack->kernels->saved_size(stack, steps, batch_size);
}

int streamdrnn_forward(const streamdrnn_stack *stack, const streamdrnn_state *before, const streamdrnn_state *after,
                       int64_t steps, const float *x, const int64_t *lengths, float *y, float *saved, int threads) {
    return with_memory(
        [&] { return stack->kernels->forward(stack, before, after, steps, x, lengths, y, saved, threads); });
}

int streamdrnn_run(const streamdrnn_live *live, int64_t steps, const float *x, const int64_t *lengths, float *y,
                   int threads) {
    return with_memory([&] { return live->stack->kernels->run(live, steps, x, lengths, y, threads); });
}

int streamdrnn_step(const streamdrnn_live *live, const float *x, float *y) {
    return live->stack->kernels->run(live, 1, x, nullptr, y, 1);
}

int streamdrnn_backward(const streamdrnn_stack *stack, const streamdrnn_state *before, int64_t steps, const float *x,
                        const int64_t *lengths, const float *saved, const float *dy, const streamdrnn_state *after,
                        float *dx, const streamdrnn_layer_gradients *gradients, int threads) {
    return with_memory([&] {
        return stack->kernels->backward(stack, before, steps, x, lengths, saved, dy, after, dx, gradients, threads);
    });
}

int streamdrnn_linear(int64_t rows, int64_t inputs, int64_t outputs, const float *x, const float *w, const float *b,
                      float *y, int threads) {
    return with_memory([&] { return chosen->linear(rows, inputs, outputs, x, w, b, y, threads); });
}

int streamdrnn_linear_backward(int64_t rows, int64_t inputs, int64_t outputs, const float *x, const float *w,
                               const float *dy, float *dx, float *dw, float *db, int threads) {
    return with_memory([&] { return chosen->linear_backward(rows, inputs, outputs, x, w, dy, dx, dw, db, threads); });
}

double streamdrnn_multiply_adds_per_second(double seconds) { return chosen->multiply_adds_per_second(seconds); }

}  // extern "C"
