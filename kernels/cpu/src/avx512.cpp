// Compiled with the instructions that setup.py names for this file.
#include "kernels.h"

#ifdef __AVX512F__
#define STREAMDRNN_LEVEL avx512
#define STREAMDRNN_LEVEL_NAME "avx512"
#include "entry_points.h"

const streamdrnn::Kernels *streamdrnn::avx512_kernels() { return &avx512::KERNELS; }
#else
const streamdrnn::Kernels *streamdrnn::avx512_kernels() { return nullptr; }
#endif
