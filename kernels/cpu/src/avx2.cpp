// Compiled with the instructions that setup.py names for this file.
#ifdef __AVX2__
#define STREAMDRNN_LEVEL avx2
#include "entry_points.h"
#else
#include "kernels.h"

const streamdrnn::Kernels *streamdrnn::avx2_kernels() { return nullptr; }
#endif
