// The levels of instructions, the best first.
#include "kernels.h"

#include <cstring>

namespace streamdrnn {

const Kernels *kernels_of(const char *level, int weights) {
    const struct {
        const Kernels *kernels;
        bool runs, takes_int8;
    } levels[] = {
#if defined(__x86_64__)
        {avx512_kernels(), __builtin_cpu_supports("avx512f") != 0, __builtin_cpu_supports("avx512vnni") != 0},
        {avx2_kernels(), __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), true},
#endif
        {portable_kernels(), true, true},
    };
    bool reached = !level;
    for (const auto &one : levels) {
        if (!one.kernels || !one.runs) continue;
        reached = reached || std::strcmp(one.kernels->level, level) == 0;
        if (reached && (one.takes_int8 || weights != STREAMDRNN_INT8)) return one.kernels;
    }
    return nullptr;
}

}  // namespace streamdrnn
