// The C interface that Python uses: picks the level of instructions.
#include "kernels.h"

namespace {

using streamdrnn::Kernels;

const Kernels *chosen = streamdrnn::kernels_of(nullptr, STREAMDRNN_FLOAT32);

}  // namespace

extern "C" {

const char *streamdrnn_level(void) { return chosen->level; }

int streamdrnn_set_level(const char *name) {
    const Kernels *const kernels = streamdrnn::kernels_of(name, STREAMDRNN_FLOAT32);
    if (kernels) chosen = kernels;
    return kernels != nullptr;
}

streamdrnn_stack *streamdrnn_stack_new(int cell, int64_t layers, const streamdrnn_layer *layer, int64_t taps,
                                       const float *fusion_weight, const float *fusion_bias, int64_t steps,
                                       int64_t batch_size, int gradients, int weights) {
    const Kernels *const kernels = streamdrnn::kernels_of(chosen->level, weights);
    streamdrnn_stack *const stack = kernels->stack_new(cell, layers, layer, taps, fusion_weight, fusion_bias, steps,
                                                       batch_size, gradients, weights);
    if (stack) stack->kernels = kernels;
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
    return stack->kernels->forward(stack, before, after, steps, x, lengths, y, saved, threads);
}

int streamdrnn_run(const streamdrnn_live *live, int64_t steps, const float *x, const int64_t *lengths, float *y,
                   int threads) {
    return live->stack->kernels->run(live, steps, x, lengths, y, threads);
}

int streamdrnn_step(const streamdrnn_live *live, const float *x, float *y) {
    return live->stack->kernels->run(live, 1, x, nullptr, y, 1);
}

int streamdrnn_steps(const streamdrnn_live *live, int64_t count, const float *x, float *y) {
    int code = STREAMDRNN_OK;
    for (int64_t i = 0; i < count && code == STREAMDRNN_OK; i++) code = streamdrnn_step(live, x, y);
    return code;
}

int streamdrnn_backward(const streamdrnn_stack *stack, const streamdrnn_state *before, int64_t steps, const float *x,
                        const int64_t *lengths, const float *saved, const float *dy, const streamdrnn_state *after,
                        float *dx, const streamdrnn_layer_gradients *gradients, int threads) {
    return stack->kernels->backward(stack, before, steps, x, lengths, saved, dy, after, dx, gradients, threads);
}

int streamdrnn_linear(int64_t rows, int64_t inputs, int64_t outputs, const float *x, const float *w, const float *b,
                      float *y, int threads) {
    return chosen->linear(rows, inputs, outputs, x, w, b, y, threads);
}

int streamdrnn_linear_backward(int64_t rows, int64_t inputs, int64_t outputs, const float *x, const float *w,
                               const float *dy, float *dx, float *dw, float *db, int threads) {
    return chosen->linear_backward(rows, inputs, outputs, x, w, dy, dx, dw, db, threads);
}

int streamdrnn_streams_in(const streamdrnn_model *model, int64_t batch_size, void *memory, int workers,
                          streamdrnn_streams **streams) {
    *streams = model->kernels->streams_new(model, batch_size, static_cast<float *>(memory), workers);
    return *streams ? STREAMDRNN_OK : STREAMDRNN_NO_MEMORY;
}

int streamdrnn_push_some(streamdrnn_streams *streams, int64_t count, const int64_t *index, int64_t n, const float *x,
                         const int64_t *lengths, float *y, int64_t *steps, int threads) {
    return streams->kernels->push_some(streams, count, index, n, x, lengths, y, steps, threads);
}

void streamdrnn_state_layout(const streamdrnn_model *model, int64_t *offsets) {
    model->kernels->state_layout(model, offsets);
}

double streamdrnn_multiply_adds_per_second(double seconds) { return chosen->multiply_adds_per_second(seconds); }

}  // extern "C"
