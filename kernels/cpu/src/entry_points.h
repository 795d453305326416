// The functions of the C interface at one level of instructions, under their names there, and the table of them.
#pragma once
#include "streams.h"

#ifndef STREAMDRNN_LIBRARY
#include "backward.h"
#include "peak.h"
#endif

namespace streamdrnn::STREAMDRNN_LEVEL {

// ---- live streams of a model

inline streamdrnn_model *model_new(const Description &description, int weights) {
    Model *const model = new Model(description, weights);
    if (!model || model->complete) return model;
    delete model;
    return nullptr;
}
inline void model_free(streamdrnn_model *model) { delete static_cast<Model *>(model); }
inline streamdrnn_info model_info(const streamdrnn_model *model) { return model_of(model).info(); }

inline void state_layout(const streamdrnn_model *model, int64_t *offsets) {
    const Record &at = model_of(model).record;
    const int64_t parts[] = {at.cursor, at.filled, at.frames, at.pooled, at.tail, at.history, at.fusion};
    const auto bytes = [](int64_t floats) { return floats * static_cast<int64_t>(sizeof(float)); };
    for (int64_t part : parts) *offsets++ = bytes(part);
    const int64_t layers = model_of(model).stack.layers;
    for (int64_t l = 0; l < layers; l++) offsets[l] = bytes(at.h[l]), offsets[layers + l] = bytes(at.c[l]);
}

inline streamdrnn_streams *streams_new(const streamdrnn_model *model, int64_t B, float *memory, int workers) {
    Streams *const streams = new Streams(model_of(model), B, memory, workers);
    if (streams) streams->kernels = model->kernels;
    if (!streams || streams->complete) return streams;
    delete streams;
    return nullptr;
}
inline void streams_free(streamdrnn_streams *streams) { delete static_cast<Streams *>(streams); }
inline int64_t streams_count(const streamdrnn_streams *streams) { return streams_of(streams).B; }
inline const streamdrnn_model *model_of_streams(const streamdrnn_streams *streams) {
    return &streams_of(streams).model;
}

inline int push_some(streamdrnn_streams *streams, int64_t count, const int64_t *index, int64_t n, const float *x,
                     const int64_t *lengths, float *y, int64_t *steps, int threads) {
    return streams_of(streams).push(count, index, n, x, lengths, y, steps, threads);
}

inline int output(const streamdrnn_streams *handle, int64_t b, float *y) {
    const Streams &streams = streams_of(handle);
    if (streams.model.pools()) {
        float *const mean = streams.workspace[0].means;
        const float *const in[] = {mean};
        streams.summary(b, streams.cursor(b), mean);
        streams.model.read_out(1, in, &y);
    } else {
        clear(y, streams.model.outputs);
    }
    return STREAMDRNN_OK;
}

inline int sum(const streamdrnn_streams *handle, int64_t b, double *total, int64_t *steps) {
    const Streams &streams = streams_of(handle);
    if (!streams.model.pools_mean) return STREAMDRNN_BAD_ARGUMENT;
    if (total) std::memcpy(total, streams.pooled(b), static_cast<size_t>(streams.model.stack.top()) * sizeof(double));
    if (steps) *steps = streams.cursor(b);
    return STREAMDRNN_OK;
}

inline int read_out(const streamdrnn_streams *handle, const float *mean, float *y) {
    const Model &model = streams_of(handle).model;
    if (!model.pools()) return STREAMDRNN_BAD_ARGUMENT;
    model.read_out(1, &mean, &y);
    return STREAMDRNN_OK;
}

inline int reset(streamdrnn_streams *streams, int64_t b) {
    streams_of(streams).reset(b);
    return STREAMDRNN_OK;
}
inline int snapshot(const streamdrnn_streams *streams, int64_t b, void *state) {
    const int64_t size = streams_of(streams).model.info().state_size;
    std::memcpy(state, streams_of(streams).record_of(b), static_cast<size_t>(size));
    return STREAMDRNN_OK;
}
inline int restore(streamdrnn_streams *streams, int64_t b, const void *state) {
    return streams_of(streams).restore(b, static_cast<const float *>(state));
}

#ifndef STREAMDRNN_LIBRARY

// ---- training, and networks alone

inline streamdrnn_stack *stack_new(int cell, int64_t layers, const streamdrnn_layer *layer, int64_t taps,
                                   const float *fusion_weight, const float *fusion_bias, int64_t steps,
                                   int64_t batch_size, int gradients, int weights) {
    Stack *const stack =
        new Stack(cell, layers, layer, taps, fusion_weight, fusion_bias, steps, batch_size, gradients, weights);
    if (!stack || stack->complete) return stack;
    delete stack;
    return nullptr;
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
        clear(ring, size);
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
    Forward pass(stack, rings_of(*after), T, x, lengths, y, saved, threads, !before);
    if (!pass.take_memory()) return STREAMDRNN_NO_MEMORY;
    begin();
    expect_writes(y, T * B * stack.top());
    pass.run();
    move_on(*after, T, lengths);
    return STREAMDRNN_OK;
}

inline int run(const streamdrnn_live *live, int64_t T, const float *x, const int64_t *lengths, float *y, int threads) {
    const Stack &stack = stack_of(live->stack);
    const int64_t B = live->state.batch_size, I = stack.layer[0].I;
    if (!finite(x, T, B, I, lengths)) return STREAMDRNN_NOT_FINITE;
    if (T == 0 || B == 0) return STREAMDRNN_OK;
    const Rings rings = rings_of(live->state);
    if (T == 1 && B == 1 && !lengths && !stack.by_rows) {
        copy(step(stack, rings, 0, x, stack.step_scratch), stack.top(), y);
    } else {
        Forward pass(stack, rings, T, x, lengths, y, nullptr, threads, false, stack.step_scratch, stack.step_floats);
        if (!pass.take_memory()) return STREAMDRNN_NO_MEMORY;
        pass.run();
    }
    if (stack.taps) fuse(stack, rings, T, lengths, y, stack.step_scratch, stack.step_rows);
    move_on(live->state, T, lengths);
    return STREAMDRNN_OK;
}

inline int backward(const streamdrnn_stack *handle, const streamdrnn_state *before, int64_t T, const float *x,
                    const int64_t *lengths, const float *saved, const float *dy, const streamdrnn_state *after,
                    float *dx, const streamdrnn_layer_gradients *gradients, int threads) {
    const Stack &stack = stack_of(handle);
    if (T == 0 || before->batch_size == 0) {
        const auto none = [](float *to, int64_t n) {
            if (to) clear(to, n);
        };
        for (int64_t l = 0; l < stack.layers; l++) {
            const int64_t K = stack.gates() * stack.layer[l].H;
            none(gradients[l].w_ih, K * stack.layer[l].I), none(gradients[l].w_hh, K * stack.layer[l].H);
            none(gradients[l].b_ih, K), none(gradients[l].b_hh, K);
        }
        return STREAMDRNN_OK;
    }
    Backward pass(stack, *before, T, x, lengths, saved, dy, *after, dx, threads);
    if (!pass.take_memory()) return STREAMDRNN_NO_MEMORY;
    pass.run();
    with_cell(stack.cell, [&](auto c) {
        for (int64_t l = 0; l < stack.layers; l++) pass.template write<decltype(c)>(l, gradients[l]);
    });
    return STREAMDRNN_OK;
}

#endif

constexpr Kernels KERNELS{
    STREAMDRNN_TEXT_OF(STREAMDRNN_LEVEL),
    model_new,
    model_free,
    model_info,
    state_layout,
    streams_new,
    streams_free,
    streams_count,
    model_of_streams,
    push_some,
    output,
    sum,
    read_out,
    reset,
    snapshot,
    restore,
#ifdef STREAMDRNN_LIBRARY
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
#else
    stack_new,
    stack_free,
    saved_size,
    forward,
    run,
    backward,
    linear,
    linear_backward,
    multiply_adds_per_second,
#endif
};

}  // namespace streamdrnn::STREAMDRNN_LEVEL

const streamdrnn::Kernels *streamdrnn::STREAMDRNN_KERNELS_OF(STREAMDRNN_LEVEL)() { return &STREAMDRNN_LEVEL::KERNELS; }
