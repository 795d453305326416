// Compiled with the instructions that setup.py names for this file.
#ifdef __AVX512F__
#define STREAMDRNN_LEVEL avx512
#include "entry_points.h"
#else
#include "kernels.h"

const streamdrnn::Kernels *streamdrnn::avx512_kernels() { return nullptr; }
#endif
