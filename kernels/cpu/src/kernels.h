// The kernels of one level of instructions, as a table; each level is compiled in a file and a namespace of its own.
#pragma once
#include "streamdrnn_cpu.h"

namespace streamdrnn {

struct Kernels {
    const char *level;
    decltype(&streamdrnn_stack_new) stack_new;
    decltype(&streamdrnn_stack_free) stack_free;
    decltype(&streamdrnn_saved_size) saved_size;
    decltype(&streamdrnn_forward) forward;
    decltype(&streamdrnn_run) run;
    decltype(&streamdrnn_backward) backward;
    decltype(&streamdrnn_linear) linear;
    decltype(&streamdrnn_linear_backward) linear_backward;
    decltype(&streamdrnn_multiply_adds_per_second) multiply_adds_per_second;
};

// NULL where this build has none.
const Kernels *avx512_kernels();
const Kernels *avx2_kernels();
const Kernels *portable_kernels();

}  // namespace streamdrnn

struct streamdrnn_stack {
    const streamdrnn::Kernels *kernels;  // those that made it
};
