#include "memory.h"

#include <cstddef>
#include <cstdlib>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace streamdrnn {
namespace {

constexpr size_t CACHE_LINE = 64, PAGE = 4096, LARGE_PAGE = 2 << 20;

}  // namespace

float *allocate(int64_t floats) {
    // From a quarter of a large page on, whole ones: they also spare the processor look-ups of addresses.
    const size_t least = static_cast<size_t>(floats > 1 ? floats : 1) * sizeof(float);
    const size_t unit = least < LARGE_PAGE / 4 ? CACHE_LINE : LARGE_PAGE, bytes = (least + unit - 1) / unit * unit;
    float *const p = static_cast<float *>(std::aligned_alloc(unit, bytes));
    if (!p) throw std::bad_alloc();
    expect_writes(p, static_cast<int64_t>(bytes / sizeof(float)));
    return p;
}

void expect_writes(float *p, int64_t floats) {
#ifdef MADV_HUGEPAGE
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(p) + PAGE - 1) / PAGE * PAGE;
    const uintptr_t end = reinterpret_cast<uintptr_t>(p + floats) / PAGE * PAGE;
    if (end >= begin + LARGE_PAGE) madvise(reinterpret_cast<void *>(begin), end - begin, MADV_HUGEPAGE);
#else
    (void)p, (void)floats;
#endif
}

}  // namespace streamdrnn
