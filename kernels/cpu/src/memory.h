// Memory from the system.
#pragma once
#include <cstdint>

namespace streamdrnn {

// So many floats, on cache lines of their own; std::free takes them back.
// Throws std::bad_alloc.
float *allocate(int64_t floats);

// Ask for large pages where these floats lie in fresh memory: each page costs a fault when it is first written.
void expect_writes(float *p, int64_t floats);

}  // namespace streamdrnn
