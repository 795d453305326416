// Compiled with the instructions that setup.py names for this file.
#include "levels.h"

#ifdef __AVX512F__
#define STREAMDRNN_LEVEL avx512
#define STREAMDRNN_LEVEL_NAME "avx512"
#include "level.h"

const streamdrnn::Kernels *streamdrnn::avx512_kernels() { return &avx512::KERNELS; }
#else
const streamdrnn::Kernels *streamdrnn::avx512_kernels() { return nullptr; }
#endif
