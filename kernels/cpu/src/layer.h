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
inline void begin_sums(const Layer &layer, int64_t tile, V (&s)[C::sums][M * N]) {
#pragma GCC unroll 8
    for (int k = 0; k < C::sums; k++)
        for (int n = 0; n < N; n++) {
            const V b = load(layer.bias + k * layer.bias_stride + (tile + n) * W);
            for (int m = 0; m < M; m++) s[k][m * N + n] = b;
        }
}
template <class C, int M, int N>
inline void sums_by_units(const Layer &layer, int64_t tile, const float *const *x, const float *const *h,
                          V (&s)[C::sums][M * N]) {
    begin_sums<C, M, N>(layer, tile, s);
    add_by_units<C, false, M, N>(s, h, layer.from_state, tile, {0, layer.H});
    add_by_units<C, true, M, N>(s, x, layer.from_input, tile, {0, layer.I});
}

template <class C, int MN, class F> inline void move_sums(V (&s)[C::sums][MN], F f) {
#pragma GCC unroll 8
    for (int k = 0; k < C::sums; k++)
#pragma GCC unroll 8
        for (int i = 0; i < MN; i++) f(s[k][i], (k * MN + i) * W);
}

// The sums of at most ROWS_TOGETHER rows, M at a time, with a piece of the weights after the other: f(first row, s).
template <class C, int M, int N, class F>
inline void sums_in_pieces(const Layer &layer, int64_t tile, int64_t begin, int64_t end, const float *const *x,
                           const float *const *h, F f) {
    const int64_t of_state = pieces_of<C>(layer.H, N), pieces = of_state + pieces_of<C>(layer.I, N);
    float kept[ROWS_TOGETHER / MOST_ROWS][C::sums * M * N * W];
    for (int64_t i = 0; i < pieces; i++)
        for (int64_t row = begin; row < end; row += M) {
            float *const sums = kept[(row - begin) / M];
            V s[C::sums][M * N];
            if (i)
                move_sums<C, M * N>(s, [&](V &v, int64_t at) { v = load(sums + at); });
            else
                begin_sums<C, M, N>(layer, tile, s);
            if (i < of_state) {
                const Piece piece = piece_of<C>(layer.H, i, of_state);
                add_by_units<C, false, M, N>(s, h + row, layer.from_state, tile, piece);
            } else {
                const Piece piece = piece_of<C>(layer.I, i - of_state, pieces - of_state);
                add_by_units<C, true, M, N>(s, x + row, layer.from_input, tile, piece);
            }
            if (i < pieces - 1)
                move_sums<C, M * N>(s, [&](V &v, int64_t at) { store(sums + at, v); });
            else
                f(row, s);
        }
}

// The sums of many rows: f(first row, Size<M>, first tile, Size<N>, s).
template <class C, class F>
inline void for_sums_by_units(const Layer &layer, int64_t rows, const float *const *x, const float *const *h, F f) {
    const auto compute = [&](int64_t first, int64_t end, auto m, int64_t tile, auto n) {
        constexpr int M = decltype(m)::value, N = decltype(n)::value;
        if constexpr (M == MOST_ROWS && !WeightsOf<C>::bytes)  // fewer rows are a single pass; bytes have one piece
            if (pieces_of<C>(layer.H + layer.I, N) > 1) {
                for (int64_t begin = first; begin < end; begin += ROWS_TOGETHER)
                    sums_in_pieces<C, M, N>(layer, tile, begin, smallest(end, begin + ROWS_TOGETHER), x, h,
                                            [&](int64_t row, const auto &s) { f(row, m, tile, n, s); });
                return;
            }
        for (int64_t row = first; row < end; row += M) {
            V s[C::sums][M * N];
            sums_by_units<C, M, N>(layer, tile, x + row, h + row, s);
            f(row, m, tile, n, s);
        }
    };
    for_tiles_by_units<C>(rows, layer.from_input.tiles.count, compute);
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
