// Arithmetic on sizes.
#pragma once
#include <cstdint>

namespace streamdrnn::STREAMDRNN_LEVEL {

constexpr int64_t smallest(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t largest(int64_t a, int64_t b) { return a > b ? a : b; }
constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t unit) { return ceil_div(a, unit) * unit; }

}  // namespace streamdrnn::STREAMDRNN_LEVEL
