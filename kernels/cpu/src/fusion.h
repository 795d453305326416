// The fusion: a causal convolution over the last outputs of the top layer.
#pragma once
#include "chunk.h"

namespace streamdrnn::STREAMDRNN_LEVEL {

// Fuses y in place: first the present output and the bias, then the earlier ones from the earliest on, each tap's
// products summed by themselves. The scratch is of `fusion_scratch` floats for so many rows.
inline int64_t fusion_scratch(const Stack &stack, int64_t rows) { return 2 * rows * stack.top(); }
inline void fuse(const Stack &stack, const Rings &rings, int64_t T, const int64_t *lengths, float *y, float *scratch,
                 int64_t scratch_rows) {
    constexpr int ROWS = 8 * MOST_ROWS;
    const int64_t H = stack.top(), B = rings.B, taps = stack.taps;
    const size_t row_bytes = static_cast<size_t>(H) * sizeof(float);
    const float *in[ROWS];
    float *row[ROWS], *fused[ROWS], *product[ROWS];
    int64_t stream[ROWS], rows = 0;
    const int64_t most = smallest(ROWS, scratch_rows);
    for (int64_t i = 0; i < most; i++) {
        fused[i] = scratch + 2 * i * H;
        product[i] = fused[i] + H;
    }
    const auto past = [&](int64_t b, int64_t t, int64_t age) {  // the output of so many steps ago
        return rings.row(rings.fusion, slot_of(rings.cursor[b], t - age, taps), b, H);
    };
    const auto compute = [&](int64_t t) {
        for (int64_t i = 0; i < rows; i++) in[i] = row[i];
        product_by_units(rows, in, stack.tap[taps - 1], stack.fusion_bias, Onto::BIAS, fused);
        for (int64_t k = 0; k < taps - 1; k++) {
            for (int64_t i = 0; i < rows; i++) in[i] = past(stream[i], t, taps - 1 - k);
            product_by_units(rows, in, stack.tap[k], nullptr, Onto::BIAS, product);
            for (int64_t i = 0; i < rows; i++)
                for (int64_t u = 0; u < H; u++) fused[i][u] += product[i][u];
        }
        for (int64_t i = 0; i < rows; i++) {
            std::memcpy(past(stream[i], t, 0), row[i], row_bytes);
            std::memcpy(row[i], fused[i], row_bytes);
        }
        rows = 0;
    };
    for (int64_t t = 0; t < T; t++) {
        for (int64_t b = 0; b < B; b++) {
            if (t >= (lengths ? lengths[b] : T)) continue;
            stream[rows] = b, row[rows] = y + (t * B + b) * H;
            if (++rows == most) compute(t);
        }
        compute(t);
    }
}

}  // namespace streamdrnn::STREAMDRNN_LEVEL
