// A vector of floats for the instructions that this file is compiled for. Every multiply-add is written as one: if the
// compiler chose what to contract, two paths could round differently.
#pragma once
#include "sizes.h"

#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__) || defined(__SSE2__)
#include <immintrin.h>
#endif

namespace streamdrnn::STREAMDRNN_LEVEL {

// smaller and larger give their second argument where one of them is NaN.
//
// A word is 32 bits, here of four bytes: whole numbers from -127 to 127. add_products adds to each word of `sum` the
// products of four bytes of inputs with four of weights, exactly. Inputs have BYTE_ZERO added to them.

#if defined(__AVX512F__)

using V = __m512;
constexpr int W = 16;
typedef uint32_t Words __attribute__((vector_size(4 * W)));
constexpr int ACCUMULATORS = 24;  // of the 32 registers

inline V load(const float *p) { return _mm512_loadu_ps(p); }
inline V load(const float *p, int n) { return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p); }
inline void store(float *p, V v) { _mm512_storeu_ps(p, v); }
inline void store(float *p, V v, int n) { _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), v); }
inline V all(float f) { return _mm512_set1_ps(f); }
inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
inline V smaller(V a, V b) { return _mm512_min_ps(a, b); }
inline V larger(V a, V b) { return _mm512_max_ps(a, b); }
inline float sum(V v) { return _mm512_reduce_add_ps(v); }
inline float greatest(V v) { return _mm512_reduce_max_ps(v); }
// 14 bits, and one Newton step: the division itself would take longer than all the rest of an activation.
inline V reciprocal(V v) {
    V r = _mm512_rcp14_ps(v);
    return fma(r, _mm512_fnmadd_ps(v, r, all(1.0f)), r);
}
// a where the mask is 1, b where it is 0.
inline V choose(V mask, V a, V b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(mask, all(0.5f), _CMP_GT_OQ), b, a);
}

constexpr int BYTE_ZERO = 128;  // VNNI takes inputs without a sign
// The instruction by its name, as the level does not ask for it: kernels_of looks whether the processor has it.
inline Words add_products(Words sum, Words inputs, Words weights) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(inputs), "v"(weights));
    return sum;
}
// The lowest byte of each lane.
inline void store_bytes(void *p, V v) {
    _mm_storeu_si128(static_cast<__m128i *>(p), _mm512_cvtepi32_epi8(_mm512_castps_si512(v)));
}

#elif defined(__AVX2__)

using V = __m256;
constexpr int W = 8;
typedef uint32_t Words __attribute__((vector_size(4 * W)));
constexpr int ACCUMULATORS = 12;  // of the 16 registers

inline __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline V load(const float *p) { return _mm256_loadu_ps(p); }
inline V load(const float *p, int n) { return _mm256_maskload_ps(p, first(n)); }
inline void store(float *p, V v) { _mm256_storeu_ps(p, v); }
inline void store(float *p, V v, int n) { _mm256_maskstore_ps(p, first(n), v); }
inline V all(float f) { return _mm256_set1_ps(f); }
inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
inline V smaller(V a, V b) { return _mm256_min_ps(a, b); }
inline V larger(V a, V b) { return _mm256_max_ps(a, b); }
inline V reciprocal(V v) { return _mm256_div_ps(all(1.0f), v); }
inline V choose(V mask, V a, V b) { return _mm256_blendv_ps(b, a, _mm256_cmp_ps(mask, all(0.5f), _CMP_GT_OQ)); }
inline float sum(V v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}
inline float greatest(V v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}

constexpr int BYTE_ZERO = 0;
inline Words add_products(Words sum, Words inputs, Words weights) {
    // Without a sign times with one: the inputs' sign goes to the weights. A sum of two products fits into 16 bits.
    const __m256i x = (__m256i)inputs, w = _mm256_sign_epi8((__m256i)weights, x);
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), w);
    return sum + (Words)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
inline void store_bytes(void *p, V v) {
    const __m128i four = _mm_set1_epi32(0x0c080400);
    const __m256i bytes = _mm256_shuffle_epi8(_mm256_castps_si256(v), _mm256_broadcastsi128_si256(four));
    const int words[2] = {_mm256_extract_epi32(bytes, 0), _mm256_extract_epi32(bytes, 4)};
    std::memcpy(p, words, sizeof words);
}

#else

// Four floats suit SSE and NEON; the compilers know both by this type.
typedef float V __attribute__((vector_size(16)));
constexpr int W = 4;
typedef uint32_t Words __attribute__((vector_size(4 * W)));
typedef uint16_t Halves __attribute__((vector_size(4 * W)));
typedef int16_t SignedHalves __attribute__((vector_size(4 * W)));
constexpr int ACCUMULATORS = 12;

inline V load(const float *p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline V load(const float *p, int n) {
    V v = {};
    std::memcpy(&v, p, static_cast<size_t>(n) * sizeof(float));
    return v;
}
inline void store(float *p, V v) { std::memcpy(p, &v, sizeof v); }
inline void store(float *p, V v, int n) { std::memcpy(p, &v, static_cast<size_t>(n) * sizeof(float)); }
inline V all(float f) { return V{f, f, f, f}; }
inline V fma(V a, V b, V c) {
#ifdef __FP_FAST_FMAF
    for (int i = 0; i < W; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
#else
    return a * b + c;  // compiled with -ffp-contract=off, this is two roundings everywhere
#endif
}
// Whole vectors are compared: of a loop over the lanes some compilers make one that goes through memory.
inline V choose(V mask, V a, V b) { return mask > all(0.5f) ? a : b; }
inline V smaller(V a, V b) { return a < b ? a : b; }
inline V larger(V a, V b) { return a > b ? a : b; }
inline V reciprocal(V v) { return all(1.0f) / v; }
inline float sum(V v) { return (v[0] + v[2]) + (v[1] + v[3]); }
inline float greatest(V v) {
    for (int i = 1; i < W; i++) v[0] = v[i] > v[0] ? v[i] : v[0];
    return v[0];
}

constexpr int BYTE_ZERO = 0;
// The sums of two neighbouring products each.
inline Words pair_products(SignedHalves a, SignedHalves b) {
#if defined(__SSE2__)
    return (Words)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
    typedef int32_t Signed __attribute__((vector_size(4 * W)));
    const auto odd = [](SignedHalves v) { return (Signed)v >> 16; };
    const auto even = [](SignedHalves v) { return (Signed)((Words)v << 16) >> 16; };
    return (Words)(even(a) * even(b) + odd(a) * odd(b));
#endif
}
inline SignedHalves odd_bytes(Words w) { return (SignedHalves)w >> 8; }
inline SignedHalves even_bytes(Words w) { return (SignedHalves)((Halves)w << 8) >> 8; }
inline Words add_products(Words sum, Words inputs, Words weights) {
    return sum + pair_products(even_bytes(inputs), even_bytes(weights)) +
           pair_products(odd_bytes(inputs), odd_bytes(weights));
}
inline void store_bytes(void *p, V v) {
    const Words w = (Words)v & 255;
    const uint32_t word = w[0] | w[1] << 8 | w[2] << 16 | w[3] << 24;
    std::memcpy(p, &word, sizeof word);
}

#endif

inline Words load_words(const void *p) {
    Words w;
    std::memcpy(&w, p, sizeof w);
    return w;
}
inline Words all_words(const void *p) {
    uint32_t w;
    std::memcpy(&w, p, sizeof w);
    return Words{} + w;
}
// The whole number, with a sign, that each word is.
inline V to_floats(Words w) {
    typedef int32_t Signed __attribute__((vector_size(4 * W)));
    return __builtin_convertvector((Signed)w, V);
}

// Doubles side by side, as wide as V, and the same numbers as whole ones.
constexpr int LANES = W / 2;
typedef double D __attribute__((vector_size(8 * LANES)));
typedef uint64_t Wholes __attribute__((vector_size(8 * LANES)));

// From as many floats, where T is a double or D.
template <class T> constexpr int lanes_of = static_cast<int>(sizeof(T) / sizeof(double));
template <class T> inline T widen(const float *p) {
    if constexpr (lanes_of<T> == 1) {
        return static_cast<T>(*p);
    } else {
        typedef float Floats __attribute__((vector_size(4 * LANES)));
        Floats f;
        std::memcpy(&f, p, sizeof f);
        return __builtin_convertvector(f, T);
    }
}

// How many lanes of a vector are used when so many floats are left.
inline int in_vector(int64_t left) { return static_cast<int>(smallest(left, W)); }

}  // namespace streamdrnn::STREAMDRNN_LEVEL
