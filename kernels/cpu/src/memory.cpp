#include "memory.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace streamdrnn {
namespace {

constexpr size_t CACHE_LINE = 64, LARGE_PAGE = 2 << 20;
constexpr int64_t USUAL_SECOND_CACHE = 1 << 20;

}  // namespace

float *allocate(int64_t floats) {
    // Where addresses have 32 bits, sizes can be wanted that they cannot tell.
    if (floats > static_cast<int64_t>((PTRDIFF_MAX - LARGE_PAGE) / sizeof(float))) return nullptr;
    // From a quarter of a large page on, whole ones: they also spare the processor look-ups of addresses.
    const size_t least = static_cast<size_t>(floats > 1 ? floats : 1) * sizeof(float);
    const size_t unit = least < LARGE_PAGE / 4 ? CACHE_LINE : LARGE_PAGE, bytes = (least + unit - 1) / unit * unit;
    float *const p = static_cast<float *>(std::aligned_alloc(unit, bytes));
    if (p) expect_writes(p, static_cast<int64_t>(bytes / sizeof(float)));
    return p;
}

void expect_writes(float *p, int64_t floats) {
#ifdef MADV_HUGEPAGE
    constexpr size_t PAGE = 4096;
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(p) + PAGE - 1) / PAGE * PAGE;
    const uintptr_t end = reinterpret_cast<uintptr_t>(p + floats) / PAGE * PAGE;
    if (end >= begin + LARGE_PAGE) madvise(reinterpret_cast<void *>(begin), end - begin, MADV_HUGEPAGE);
#else
    (void)p, (void)floats;
#endif
}

int64_t second_cache() {
#if defined(_SC_LEVEL2_CACHE_SIZE) && !defined(STREAMDRNN_LIBRARY)
    const int64_t bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (bytes > 0) return bytes;
#endif
    return USUAL_SECOND_CACHE;
}

}  // namespace streamdrnn
