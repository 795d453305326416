// Compiled for the least of the processors of its kind.
#define STREAMDRNN_LEVEL portable
#define STREAMDRNN_LEVEL_NAME "portable"
#include "entry_points.h"

const streamdrnn::Kernels *streamdrnn::portable_kernels() { return &portable::KERNELS; }
