// The kernels of one level of instructions, as a table; each level is compiled in a file and a namespace of its own.
#pragma once
#include "description.h"
#include "streamdrnn_cpu.h"

namespace streamdrnn {

struct Kernels {
    const char *level;

    // ---- live streams of a model; a model or streams that lack memory are NULL
    streamdrnn_model *(*model_new)(const Description &, int weights);
    void (*model_free)(streamdrnn_model *);
    streamdrnn_info (*model_info)(const streamdrnn_model *);
    decltype(&streamdrnn_state_layout) state_layout;
    streamdrnn_streams *(*streams_new)(const streamdrnn_model *, int64_t batch_size, float *memory, int workers);
    void (*streams_free)(streamdrnn_streams *);
    int64_t (*streams_count)(const streamdrnn_streams *);
    const streamdrnn_model *(*model_of_streams)(const streamdrnn_streams *);
    decltype(&streamdrnn_push_some) push_some;
    decltype(&streamdrnn_output) output;
    decltype(&streamdrnn_sum) sum;
    decltype(&streamdrnn_read_out) read_out;
    decltype(&streamdrnn_reset) reset;
    decltype(&streamdrnn_snapshot) snapshot;
    decltype(&streamdrnn_restore) restore;

    // ---- training, and networks alone; NULL in the C library
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

// In a file of a level STREAMDRNN_LEVEL is its name, a word.
#define STREAMDRNN_TEXT(word) #word
#define STREAMDRNN_TEXT_OF(level) STREAMDRNN_TEXT(level)
#define STREAMDRNN_JOINED(word, ending) word##ending
#define STREAMDRNN_KERNELS_OF(level) STREAMDRNN_JOINED(level, _kernels)

// Those of a level, or for NULL the best; NULL if this processor or build lacks it. Where the processor lacks what they
// multiply such weights with, those of the next level.
const Kernels *kernels_of(const char *level, int weights);

}  // namespace streamdrnn

// Each is kept with the kernels that made it.
struct streamdrnn_stack {
    const streamdrnn::Kernels *kernels;
};
struct streamdrnn_model {
    const streamdrnn::Kernels *kernels;
};
struct streamdrnn_streams {
    const streamdrnn::Kernels *kernels;
};
