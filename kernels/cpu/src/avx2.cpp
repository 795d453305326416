// Compiled with the instructions that setup.py names for this file.
#include "kernels.h"

#ifdef __AVX2__
#define STREAMDRNN_LEVEL avx2
#define STREAMDRNN_LEVEL_NAME "avx2"
#include "entry_points.h"

const streamdrnn::Kernels *streamdrnn::avx2_kernels() { return &avx2::KERNELS; }
#else
const streamdrnn::Kernels *streamdrnn::avx2_kernels() { return nullptr; }
#endif
