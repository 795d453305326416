// One layer's weights, laid out by units or by rows, and the sums of products that its cell reads.
#pragma once
#include "buffers.h"
#include "streamdrnn_cpu.h"
#include "tiles.h"

namespace streamdrnn::STREAMDRNN_LEVEL {

struct Layer {
    int64_t I, H, d;
    Packed from_input, from_state;  // forward
    Packed to_input, to_state;      // backward: from the gradients of the gates
    float *bias;                    // [sum][bias_stride]
    int64_t bias_stride;
};

template <class C>
void lay_out(Layer &to, const streamdrnn_layer &from, bool by_rows, bool gradients, Scratch &memory) {
    const int64_t I = from.input_size, H = from.hidden_size, K = C::gates * H;
    to.I = I, to.H = H, to.d = from.dilation;
    const Tiles units = by_rows ? Tiles::by_rows(H, most_units<C>()) : Tiles::by_units(H);
    const auto take = [&](auto kind, const Tiles &tiles, int64_t gates, int64_t inputs) {
        Packed packed{tiles, gates, inputs, nullptr};
        packed.data = memory.take(packed.size<decltype(kind)>());
        return packed;
    };
    const WeightsOf<C> kind;
    to.bias_stride = round_up(H, W);
    to.bias = memory.take(C::sums * to.bias_stride);
    to.from_state = take(kind, units, C::gates, H);
    to.from_input = take(kind, units, C::gates, I);
    if (!gradients) return;
    to.to_state = take(Float32{}, by_rows ? Tiles::by_rows(H, most_units<Plain>()) : Tiles::by_units(H), 1, K);
    to.to_input = take(Float32{}, by_rows ? Tiles::by_rows(I, most_units<Plain>()) : Tiles::by_units(I), 1, K);
}

template <class C> void fill(Layer &to, const streamdrnn_layer &from, bool gradients) {
    const int64_t I = from.input_size, H = from.hidden_size;
    std::memset(to.bias, 0, static_cast<size_t>(C::sums * to.bias_stride) * sizeof(float));
    const auto add_bias = [&](bool of_input, const float *b) {
        for (int g = 0; b && g < C::gates; g++)
            for (int64_t u = 0; u < H; u++) to.bias[C::sum_of(of_input, g) * to.bias_stride + u] += b[g * H + u];
    };
    add_bias(true, from.b_ih), add_bias(false, from.b_hh);
    using K = WeightsOf<C>;
    to.from_input.fill<K>([&](int64_t g, int64_t u, int64_t k) { return from.w_ih[(g * H + u) * I + k]; });
    to.from_state.fill<K>([&](int64_t g, int64_t u, int64_t k) { return from.w_hh[(g * H + u) * H + k]; });
    if (!gradients) return;
    to.to_input.fill([&](int64_t, int64_t u, int64_t k) { return from.w_ih[k * I + u]; });
    to.to_state.fill([&](int64_t, int64_t u, int64_t k) {
        return from.w_hh[(C::gate(static_cast<int>(k / H)) * H + k % H) * H + u];
    });
}

// Rows that are collected before they are computed together, by units.
constexpr int64_t ROWS_TOGETHER = 8 * MOST_ROWS;

// Int8 weights take copies of their inputs, as bytes; the others take them as they are. A copy of all rows that are
// computed together has this size.
template <class C> constexpr int64_t copy_size(int64_t inputs) {
    return WeightsOf<C>::bytes ? ROWS_TOGETHER * row_words(inputs) : 0;
}
// Where the rows are as the weights take them; `copies` is for pointers to those at `copy`.
template <class C>
inline const float *const *as_taken(int64_t rows, int64_t inputs, const float *const *x, float *copy,
                                    const float **copies) {
    if constexpr (!WeightsOf<C>::bytes) return x;
    for (int64_t i = 0; i < rows; i++) {
        to_bytes(x[i], inputs, copy + i * row_words(inputs));
        copies[i] = copy + i * row_words(inputs);
    }
    return copies;
}

// The sums below begin with the state's products: in a step they can be under way while the layer below is still at
// its activations.

// By units: s[sum][row m, vector n] for M rows and N neighbouring tiles.
template <class C, int M, int N>
inline void sums_by_units(const Layer &layer, int64_t tile, const float *const *x, const float *const *h,
                          V (&s)[C::sums][M * N]) {
#pragma GCC unroll 8
    for (int k = 0; k < C::sums; k++)
        for (int n = 0; n < N; n++) {
            const V b = load(layer.bias + k * layer.bias_stride + (tile + n) * W);
            for (int m = 0; m < M; m++) s[k][m * N + n] = b;
        }
    add_by_units<C, false, M, N>(s, h, layer.from_state, tile);
    add_by_units<C, true, M, N>(s, x, layer.from_input, tile);
}

// By rows: all sums of one step, [unit][sum][lane]. The activations then overlap over all units, not over one tile's
// only.
template <class C> inline void sums_by_rows(const Layer &layer, const float *x, const float *h, float *to) {
    for_tiles_by_rows<C>(layer.from_input.tiles, [&](int64_t tile, auto size) {
        constexpr int U = decltype(size)::value;
        const int64_t first = layer.from_input.tiles.start(tile);
        V s[C::sums][U];
        for (int k = 0; k < C::sums; k++)
            for (int u = 0; u < U; u++) s[k][u] = all(layer.bias[k * layer.bias_stride + first + u]);
        add_by_rows<C, false, U>(s, h, layer.from_state, tile);
        add_by_rows<C, true, U>(s, x, layer.from_input, tile);
        for (int u = 0; u < U; u++)
            for (int k = 0; k < C::sums; k++) store(to + ((first + u) * C::sums + k) * W, s[k][u]);
    });
}

}  // namespace streamdrnn::STREAMDRNN_LEVEL
