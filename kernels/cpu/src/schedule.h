// Work that is done lane by lane: in each group a lane per layer, in each lane a row of blocks of time.
#pragma once
#include <cstdint>

namespace streamdrnn {

// How many blocks a lane may be ahead of the one that reads what it wrote.
constexpr int64_t LEAD = 2;

// Calls task(context, worker, group, layer, block) once for each, on up to `threads` threads, of which the caller's is one.
// A block waits for the one before it in its lane and for the same block of the layer before; and a layer never
// is more than LEAD blocks ahead of the next one. Which thread computes what does not show in any result.
using Task = void (*)(void *context, int worker, int64_t group, int64_t layer, int64_t block);
void run_lanes(int threads, int64_t groups, int64_t layers, int64_t blocks, Task task, void *context);

// Calls task(context, worker, part, 0, 0) once for each part, in any order.
void run_parts(int threads, int64_t parts, Task task, void *context);

}  // namespace streamdrnn
