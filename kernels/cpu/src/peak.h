// The rate of multiply-adds that this processor can reach, for benchmarks to compare with.
#pragma once
#include "simd.h"

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
    return total > 0 ? best : 0;  // the compiler must not remove the loop
}

}  // namespace streamdrnn::STREAMDRNN_LEVEL
