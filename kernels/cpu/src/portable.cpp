// Compiled for the least of the processors of its kind.
#define STREAMDRNN_LEVEL portable
#include "entry_points.h"
