// A stack's weights: its layers and its fusion.
#pragma once
#include "kernels.h"
#include "layer.h"
#include "schedule.h"

namespace streamdrnn::STREAMDRNN_LEVEL {

// By rows pays where rows fill the vectors better than units do, and the chunk is worth interleaving the rows.
inline bool better_by_rows(int64_t layers, const streamdrnn_layer *layer, int64_t steps, int64_t batch_size) {
    if (batch_size < 8 || steps < 8) return false;
    double rows = 0, units = 0;
    for (int64_t l = 0; l < layers; l++) {
        const double work = static_cast<double>(layer[l].hidden_size);
        rows += work * static_cast<double>(round_up(batch_size, W)) / static_cast<double>(batch_size);
        units += static_cast<double>(round_up(layer[l].hidden_size, W));
    }
    return rows < units;
}

struct Stack : streamdrnn_stack {
    int cell, weights;
    int64_t layers;
    bool by_rows;
    Scratch memory;
    Slots<Layer> layer;
    int64_t taps;
    Slots<Packed> tap;
    float *fusion_bias = nullptr;  // NULL where there is none
    int64_t step_rows;             // for how many rows there is scratch for single steps
    float *step_scratch = nullptr;
    int64_t step_floats = 0;
    int64_t copy_floats = 0;  // for a layer's inputs as its weights take them
    bool complete;            // there was memory

    static void *operator new(size_t bytes) noexcept { return std::malloc(bytes); }
    static void operator delete(void *stack) { std::free(stack); }

    Stack(int cell, int64_t layers, const streamdrnn_layer *from, int64_t taps, const float *tap_weight,
          const float *tap_bias, int64_t steps, int64_t batch_size, bool gradients, int weights)
        : cell(cell), weights(weights), layers(layers),
          by_rows(weights == STREAMDRNN_FLOAT32 && better_by_rows(layers, from, steps, batch_size)), taps(taps),
          step_rows(largest(1, batch_size)) {
        const int64_t H = from[layers - 1].hidden_size;
        complete = with_cell(cell, weights, [&](auto c) {
            using C = decltype(c);
            if (!memory.lay_out([&] { take_memory<C>(from, tap_bias, gradients); })) return false;
            for (int64_t l = 0; l < layers; l++) fill<C>(layer[l], from[l], gradients);
            return true;
        });
        if (!complete) return;
        for (int64_t i = 0; i < taps; i++)
            tap[i].fill([&](int64_t, int64_t u, int64_t k) { return tap_weight[(u * H + k) * taps + i]; });
        if (tap_bias) std::memcpy(fusion_bias, tap_bias, static_cast<size_t>(H) * sizeof(float));
    }

    template <class C> void take_memory(const streamdrnn_layer *from, bool tap_bias, bool gradients) {
        memory.take(layer, layers), memory.take(tap, taps);
        Layer measured;
        step_floats = round_up(2 * layers, 16) + 16;  // pointers
        copy_floats = 0;
        for (int64_t l = 0; l < layers; l++) {
            lay_out<C>(layer.items ? layer[l] : measured, from[l], by_rows, gradients, memory);
            step_floats += round_up(LEAD * step_rows * from[l].hidden_size, 16);
            copy_floats = largest(copy_floats, copy_size<C>(from[l].input_size) + copy_size<C>(from[l].hidden_size));
        }
        step_floats += round_up(copy_floats, 16);
        const int64_t H = from[layers - 1].hidden_size;
        const Tiles tiles = Tiles::by_units(H);
        for (int64_t i = 0; i < taps; i++) {
            float *const weights = memory.take(tiles.padded() * H);
            if (tap.items) tap[i] = {tiles, 1, H, weights};
        }
        fusion_bias = tap_bias ? memory.take(H) : nullptr;
        step_scratch = memory.take(step_floats);
    }

    int64_t gates() const {
        return with_cell(cell, [](auto c) { return decltype(c)::gates; });
    }
    int64_t sums() const {
        return with_cell(cell, [](auto c) { return decltype(c)::sums; });
    }
    bool has_c() const {
        return with_cell(cell, [](auto c) { return decltype(c)::has_c; });
    }
    int64_t top() const { return layer[layers - 1].H; }
    int64_t widest() const {
        int64_t widest = 0;
        for (int64_t l = 0; l < layers; l++) widest = largest(widest, layer[l].H);
        return widest;
    }
    int64_t units() const {
        int64_t total = 0;
        for (int64_t l = 0; l < layers; l++) total += layer[l].H;
        return total;
    }
    int64_t multiply_adds() const {  // of one row
        int64_t total = 0;
        for (int64_t l = 0; l < layers; l++) total += layer[l].H * (layer[l].I + layer[l].H);
        return total * gates();
    }
};

inline const Stack &stack_of(const streamdrnn_stack *stack) { return *static_cast<const Stack *>(stack); }

}  // namespace streamdrnn::STREAMDRNN_LEVEL
