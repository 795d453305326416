// A linear map whose rows do not see one another, and its gradients.
#pragma once
#include "chunk.h"

namespace streamdrnn::STREAMDRNN_LEVEL {

constexpr int64_t ROWS_PER_PART = 256;

// y (N, M) = x (N, K) w + b, w packed by units.
struct Product {
    int64_t rows;
    const float *x, *bias;
    const Packed &w;
    float *y;

    void run(int threads) {
        const int64_t inputs = w.inputs, outputs = w.tiles.outputs;
        const Task task = [](void *self, int, int64_t part, int64_t, int64_t) {
            static_cast<Product *>(self)->part(part);
        };
        run_parts(useful_threads(threads, rows * inputs * outputs), ceil_div(rows, ROWS_PER_PART), task, this);
    }

    void part(int64_t part) {
        const float *in[ROWS_PER_PART];
        float *out[ROWS_PER_PART];
        const int64_t first = part * ROWS_PER_PART, count = smallest(rows - first, ROWS_PER_PART);
        for (int64_t i = 0; i < count; i++) {
            in[i] = x + (first + i) * w.inputs;
            out[i] = y + (first + i) * w.tiles.outputs;
        }
        product_by_units(count, in, w, bias, Onto::BIAS, out);
    }
};

inline int linear(int64_t rows, int64_t inputs, int64_t outputs, const float *x, const float *w, const float *b,
                  float *y, int threads) {
    Packed packed{Tiles::by_units(outputs), 1, inputs, nullptr};
    const Buffer memory(packed.size());
    if (!memory.get()) return STREAMDRNN_NO_MEMORY;
    packed.data = memory.get();
    packed.fill([&](int64_t, int64_t u, int64_t k) { return w[u * inputs + k]; });
    Product{rows, x, b, packed, y}.run(threads);
    return STREAMDRNN_OK;
}

inline int linear_backward(int64_t rows, int64_t inputs, int64_t outputs, const float *x, const float *w,
                           const float *dy, float *dx, float *dw, float *db, int threads) {
    const Buffer total(inputs * outputs + outputs);
    Packed packed{Tiles::by_units(inputs), 1, outputs, nullptr};
    const Buffer memory(dx ? packed.size() : 0), scratch(outer_scratch(inputs));
    if (!total.get() || !memory.get() || !scratch.get()) return STREAMDRNN_NO_MEMORY;
    clear(total.get(), inputs * outputs + outputs);
    if (dx) {
        packed.data = memory.get();
        packed.fill([&](int64_t, int64_t u, int64_t k) { return w[k * inputs + u]; });
        Product{rows, dy, nullptr, packed, dx}.run(threads);
    }
    if (!dw && !db) return STREAMDRNN_OK;
    float *const bias_total = total.get() + inputs * outputs;
    for (int64_t first = 0; first < rows; first += ROWS_PER_PART) {
        const float *in[ROWS_PER_PART];
        const int64_t count = smallest(rows - first, ROWS_PER_PART);
        for (int64_t i = 0; i < count; i++) in[i] = x + (first + i) * inputs;
        if (dw) outer_by_units(count, in, inputs, dy + first * outputs, outputs, outputs, scratch.get(), total.get());
        for (int64_t j = 0; j < outputs; j++) {
            float sum = 0;
            for (int64_t i = 0; i < count; i++) sum += dy[(first + i) * outputs + j];
            bias_total[j] += sum;
        }
    }
    if (dw) transpose(total.get(), outputs, inputs, outputs, dw);
    if (db) std::memcpy(db, bias_total, static_cast<size_t>(outputs) * sizeof(float));
    return STREAMDRNN_OK;
}

}  // namespace streamdrnn::STREAMDRNN_LEVEL
