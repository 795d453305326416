// The C interface of streamdrnn.h: checks what it is given, and calls the kernels that a model was made with.
#include "kernels.h"
#include "loader.h"

#include <cstdio>

namespace {

bool has(const streamdrnn_streams *streams, int64_t stream) {
    return stream >= 0 && stream < streams->kernels->streams_count(streams);
}

bool fit(const streamdrnn_streams *streams, int64_t n, const int64_t *lengths) {
    if (n < 0) return false;
    for (int64_t b = 0; lengths && b < streams->kernels->streams_count(streams); b++)
        if (lengths[b] < 0 || lengths[b] > n) return false;
    return true;
}

}  // namespace

extern "C" {

const char *streamdrnn_message(int code) {
    switch (code) {
        case STREAMDRNN_OK:
            return "done";
        case STREAMDRNN_NOT_FINITE:
            return "expected finite values, got NaN or infinity";
        case STREAMDRNN_NO_MEMORY:
            return "not enough memory";
        case STREAMDRNN_BAD_MODEL:
            return "the model's file is damaged, or of a kind that this library does not know";
        case STREAMDRNN_BAD_ARGUMENT:
            return "a number is out of its range";
        case STREAMDRNN_BAD_STATE:
            return "the snapshot is damaged, or of another model";
        default:
            return "no code of this library";
    }
}

int streamdrnn_model_load(const void *file, size_t size, int weights, const char *level, streamdrnn_model **model,
                          char *why, size_t room) {
    const streamdrnn::Kernels *const kernels = streamdrnn::kernels_of(level, weights);
    if (!kernels || weights < STREAMDRNN_FLOAT32 || weights > STREAMDRNN_INT8) return STREAMDRNN_BAD_ARGUMENT;
    streamdrnn::LoadedModel loaded;
    if (const int code = loaded.load(file, size, why, room)) return code;
    const streamdrnn::Description &description = loaded.description();
    for (int64_t l = 0; weights == STREAMDRNN_INT8 && l < description.layers; l++) {
        const streamdrnn_layer &layer = description.layer[l];
        if (layer.input_size <= STREAMDRNN_INT8_INPUTS && layer.hidden_size <= STREAMDRNN_INT8_INPUTS) continue;
        if (why)
            std::snprintf(why, room, "expected at most %d inputs and units with int8 weights", STREAMDRNN_INT8_INPUTS);
        return STREAMDRNN_BAD_MODEL;
    }
    streamdrnn_model *const made = kernels->model_new(description, weights);
    if (!made) return STREAMDRNN_NO_MEMORY;
    made->kernels = kernels;
    *model = made;
    return STREAMDRNN_OK;
}

void streamdrnn_model_free(streamdrnn_model *model) {
    if (model) model->kernels->model_free(model);
}

void streamdrnn_model_info(const streamdrnn_model *model, streamdrnn_info *info) {
    *info = model->kernels->model_info(model);
}

const char *streamdrnn_model_level(const streamdrnn_model *model) { return model->kernels->level; }

int streamdrnn_streams_new(const streamdrnn_model *model, int64_t batch_size, streamdrnn_streams **streams) {
    constexpr int64_t MOST = int64_t{1} << 48;  // bytes, and streams
    if (batch_size < 1 || batch_size > MOST / model->kernels->model_info(model).state_size)
        return STREAMDRNN_BAD_ARGUMENT;
    streamdrnn_streams *const made = model->kernels->streams_new(model, batch_size, nullptr, 1);
    if (!made) return STREAMDRNN_NO_MEMORY;
    *streams = made;
    return STREAMDRNN_OK;
}

void streamdrnn_streams_free(streamdrnn_streams *streams) {
    if (streams) streams->kernels->streams_free(streams);
}

int64_t streamdrnn_most_steps(const streamdrnn_streams *streams, int64_t n) {
    const streamdrnn_model *const model = streams->kernels->model_of_streams(streams);
    const int64_t hop = model->kernels->model_info(model).hop_length;
    return n <= 0 ? 0 : (n - 1) / hop + 1;
}

int streamdrnn_push(streamdrnn_streams *streams, int64_t n, const float *x, const int64_t *lengths, float *y,
                    int64_t *steps) {
    if (!fit(streams, n, lengths)) return STREAMDRNN_BAD_ARGUMENT;
    const int64_t count = streams->kernels->streams_count(streams);
    return streams->kernels->push_some(streams, count, nullptr, n, x, lengths, y, steps, 1);
}

int streamdrnn_output(const streamdrnn_streams *streams, int64_t stream, float *y) {
    return has(streams, stream) ? streams->kernels->output(streams, stream, y) : STREAMDRNN_BAD_ARGUMENT;
}

int streamdrnn_sum(const streamdrnn_streams *streams, int64_t stream, double *sum, int64_t *steps) {
    return has(streams, stream) ? streams->kernels->sum(streams, stream, sum, steps) : STREAMDRNN_BAD_ARGUMENT;
}

int streamdrnn_read_out(const streamdrnn_streams *streams, const float *mean, float *y) {
    return streams->kernels->read_out(streams, mean, y);
}

int streamdrnn_reset(streamdrnn_streams *streams, int64_t stream) {
    return has(streams, stream) ? streams->kernels->reset(streams, stream) : STREAMDRNN_BAD_ARGUMENT;
}

int streamdrnn_snapshot(const streamdrnn_streams *streams, int64_t stream, void *state) {
    return has(streams, stream) ? streams->kernels->snapshot(streams, stream, state) : STREAMDRNN_BAD_ARGUMENT;
}

int streamdrnn_restore(streamdrnn_streams *streams, int64_t stream, const void *state) {
    return has(streams, stream) ? streams->kernels->restore(streams, stream, state) : STREAMDRNN_BAD_ARGUMENT;
}

}  // extern "C"
