// Memory, as the system gives it.
#pragma once
#include <cstdint>

namespace streamdrnn {

// Floats on cache lines of their own, for std::free to take back; NULL where there is no memory.
float *allocate(int64_t floats);

// Asks for large pages: in fresh memory each page costs a fault when it is first written.
void expect_writes(float *p, int64_t floats);

// Bytes of a core's second cache, or what many have: where the system does not tell, and in the library, which asks it
// for memory alone.
int64_t second_cache();

}  // namespace streamdrnn
