// How weights are held: a word of 32 bits has those of one unit and of one or several inputs, one after the other.
#pragma once
#include "cells.h"

namespace streamdrnn::STREAMDRNN_LEVEL {

// A kind of weights:
//   per_word  the weights in a word;
//   bytes     whether they are whole numbers with scales, as below;
//   pack      from so many weights to their word;
//   widen     from words to so many vectors of weights, but for bytes.
struct Float32 {
    static constexpr int per_word = 1;
    static constexpr bool bytes = false;
    static void pack(const float *w, float *word) { *word = *w; }
    static void widen(V words, V *w) { *w = words; }
};

// The upper half of a float32, rounded to nearest, ties to even.
struct BFloat16 {
    static constexpr int per_word = 2;
    static constexpr bool bytes = false;
    static uint32_t narrow(float w) {
        uint32_t bits;
        std::memcpy(&bits, &w, sizeof bits);
        if (w != w) return 0x7fc0;
        const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        return w - w == 0 && (rounded & 0x7f80) == 0x7f80 ? rounded - 1
                                                          : rounded;  // the largest there is, not infinity
    }
    static void pack(const float *w, float *word) {
        const uint32_t both = narrow(w[0]) | narrow(w[1]) << 16;
        std::memcpy(word, &both, sizeof both);
    }
    static void widen(V words, V *w) { w[0] = (V)((Words)words << 16), w[1] = (V)((Words)words & 0xffff0000); }
};

// Bytes: whole numbers up to MOST_BYTE, and for each output their scale. Products take inputs that are rounded in the
// same way, with a scale for each row; until they are scaled they are exact. Beside the scale is where the sums of an
// output begin, for the BYTE_ZERO of the inputs.
constexpr float MOST_BYTE = 127;
struct Int8 {
    static constexpr int per_word = 4;
    static constexpr bool bytes = true;
    // That of numbers up to a magnitude; one that is not finite makes the sums so.
    static float scale(float magnitude) { return magnitude / MOST_BYTE; }
    static float whole(float w, float scale) {
        const float quotient = w / scale;
        if (quotient != quotient) return 0;  // the scale is 0 or not finite
        return __builtin_rintf(quotient > MOST_BYTE ? MOST_BYTE : quotient < -MOST_BYTE ? -MOST_BYTE : quotient);
    }
    static void pack(const float *w, float *word) {
        uint32_t bytes = 0;
        for (int i = 0; i < per_word; i++) bytes |= (static_cast<uint32_t>(static_cast<int32_t>(w[i])) & 255) << 8 * i;
        std::memcpy(word, &bytes, sizeof bytes);
    }
};

// A cell whose weights are of a narrower kind than float32; its stack computes by units.
template <class C, class K> struct Narrow : C {};

template <class C> struct Held {
    using Weights = Float32;
};
template <class C, class K> struct Held<Narrow<C, K>> {
    using Weights = K;
};
template <class C> using WeightsOf = typename Held<C>::Weights;

// f(cell), for a cell and a kind of weights by the numbers that they have in the C interface.
template <class F> inline auto with_cell(int cell, int weights, F f) {
    return with_cell(cell, [&](auto c) {
        using C = decltype(c);
        if (weights == STREAMDRNN_BFLOAT16) return f(Narrow<C, BFloat16>{});
        if (weights == STREAMDRNN_INT8) return f(Narrow<C, Int8>{});
        return f(c);
    });
}

// ---- inputs as products with int8 weights take them: bytes, and their scale

constexpr float LEAST_MAGNITUDE = 1e-30f;  // smaller inputs become 0
// Added to a whole number, it leaves that number in the lowest bits.
constexpr float WHOLE = 12582912;  // 1.5 * 2^23

constexpr int64_t row_words(int64_t inputs) { return round_up(round_up(inputs, W) / Int8::per_word + 1, 16); }
inline void to_bytes(const float *x, int64_t inputs, float *to) {
    const auto at = [&](int64_t k) { return k + W <= inputs ? load(x + k) : load(x + k, in_vector(inputs - k)); };
    V magnitudes = all(LEAST_MAGNITUDE);
    for (int64_t k = 0; k < inputs; k += W) magnitudes = larger(magnitudes, larger(at(k), -at(k)));
    const float magnitude = greatest(magnitudes);
    const V inverse = all(MOST_BYTE / magnitude), zero = all(WHOLE + BYTE_ZERO);
    for (int64_t k = 0; k < inputs; k += W) store_bytes(to + k / Int8::per_word, fma(at(k), inverse, zero));
    to[row_words(inputs) - 1] = Int8::scale(magnitude);
}

}  // namespace streamdrnn::STREAMDRNN_LEVEL
