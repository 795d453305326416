// A vector of floats for the instructions that this file is compiled for. Every multiply-add is written as one: if the
// compiler chose what to contract, two paths could round differently.
#pragma once
#include "sizes.h"

#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace streamdrnn::STREAMDRNN_LEVEL {

// smaller and larger give their second argument where one of them is NaN.

#if defined(__AVX512F__)

using V = __m512;
constexpr int W = 16;
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
// 14 bits, and one Newton step: the division itself would take longer than all the rest of an activation.
inline V reciprocal(V v) {
    V r = _mm512_rcp14_ps(v);
    return fma(r, _mm512_fnmadd_ps(v, r, all(1.0f)), r);
}
// a where the mask is 1, b where it is 0.
inline V choose(V mask, V a, V b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(mask, all(0.5f), _CMP_GT_OQ), b, a);
}

#elif defined(__AVX2__)

using V = __m256;
constexpr int W = 8;
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

#else

// Four floats suit SSE and NEON; the compilers know both by this type.
typedef float V __attribute__((vector_size(16)));
constexpr int W = 4;
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
inline V choose(V mask, V a, V b) {
    for (int i = 0; i < W; i++) b[i] = mask[i] > 0.5f ? a[i] : b[i];
    return b;
}
inline V smaller(V a, V b) {
    for (int i = 0; i < W; i++) a[i] = a[i] < b[i] ? a[i] : b[i];
    return a;
}
inline V larger(V a, V b) {
    for (int i = 0; i < W; i++) a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
}
inline V reciprocal(V v) { return all(1.0f) / v; }
inline float sum(V v) { return (v[0] + v[2]) + (v[1] + v[3]); }

#endif

// How many lanes of a vector are used when so many floats are left.
inline int in_vector(int64_t left) { return static_cast<int>(smallest(left, W)); }

}  // namespace streamdrnn::STREAMDRNN_LEVEL
