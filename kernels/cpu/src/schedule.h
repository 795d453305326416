// Work on several threads: in pipelines, where its order matters, or in parts.
#pragma once
#include <cstdint>

namespace streamdrnn {

// How many of these threads the work is worth, at least one: a thread costs time of its own.
int useful_threads(int threads, int64_t multiply_adds);

// How many blocks a stage may be ahead of the one that reads what it wrote.
constexpr int64_t LEAD = 2;

// One pipeline per group of streams, with one stage per layer; each stage computes the blocks of time in their order.
//
// Calls task(context, worker, group, layer, block) once for each, on up to `threads` threads, the caller's included. A
// block waits for the one before it in its stage and for the same block of the layer before; and a layer is never more
// than LEAD blocks ahead of the next one. The results do not depend on which thread computes what.
using Task = void (*)(void *context, int worker, int64_t group, int64_t layer, int64_t block);
void run_pipelines(int threads, int64_t groups, int64_t layers, int64_t blocks, Task task, void *context);

// Calls task(context, worker, part, 0, 0) once for each part, in any order.
void run_parts(int threads, int64_t parts, Task task, void *context);

}  // namespace streamdrnn
