// Matrix products, a tile of the result in registers at a time.
//
// There are two ways to multiply rows with weights. By UNITS, a vector is W units of one row, and the row's values are
// broadcast: right for few rows. By ROWS, a vector is one unit of W rows, a lane each, and the weights are broadcast:
// right for many rows of narrow layers. Either way an output is its bias, then one multiply-add per product in the
// order of the weights. So its bits depend on its own row only, in both ways and beside any other rows.
#pragma once
#include "weights.h"

namespace streamdrnn::STREAMDRNN_LEVEL {

// A plain product, in the terms of a cell.
struct Plain {
    static constexpr int gates = 1, sums = 1;
    static constexpr int sum_of(bool, int) { return 0; }
};

// Rows that share one pass over the weights.
constexpr int MOST_ROWS = W == 16 ? 6 : 3;
// Units (by rows) or vectors of units (by units) that fill the registers.
template <class C> constexpr int most_units() { return static_cast<int>(smallest(ACCUMULATORS / C::sums, 10)); }
template <class C> constexpr int most_vectors(int rows) {
    return static_cast<int>(
        largest(1, smallest(ACCUMULATORS / C::sums / rows, WeightsOf<C>::bytes && W == 16 ? 2 : 4)));
}

// Some of the inputs, from begin to before end.
struct Piece {
    int64_t begin, end;
};
// How many words ahead weights are asked for: those of a wide stack come from the third cache, and by itself a processor
// does not ask for enough of them at a time. Smaller vectors leave less time for it: they are slower with it.
constexpr int64_t AHEAD = W == 16 ? 96 * W : 0;
// The words of weights that stay in the first cache while rows pass over them. Wider layers take a piece of the inputs
// at a time, with all rows that share the weights; else each row would read the weights from the second cache.
constexpr int64_t CACHED_WORDS = 600 * W;
// Bytes are summed in one piece: their sum is whole until it is scaled.
template <class C> constexpr int64_t pieces_of(int64_t inputs, int64_t vectors) {
    using K = WeightsOf<C>;
    return K::bytes ? 1 : ceil_div(ceil_div(inputs, K::per_word) * C::gates * vectors * W, CACHED_WORDS);
}
template <class C> constexpr Piece piece_of(int64_t inputs, int64_t i, int64_t pieces) {
    using K = WeightsOf<C>;
    const auto at = [&](int64_t part) { return smallest(inputs, round_up(inputs * part / pieces, K::per_word)); };
    return {at(i), at(i + 1)};
}

// How the outputs are cut into tiles: by units W each, the last one padded with zeros; by rows as equal as can be.
struct Tiles {
    int64_t outputs, count, wide;  // `wide` tiles of `width`, the others one narrower
    int width;

    static Tiles by_units(int64_t outputs) { return {outputs, ceil_div(outputs, W), ceil_div(outputs, W), W}; }
    static Tiles by_rows(int64_t outputs, int most) {
        const int64_t count = ceil_div(outputs, most), width = ceil_div(outputs, count);
        return {outputs, count, outputs - count * (width - 1), static_cast<int>(width)};
    }
    int64_t start(int64_t i) const { return i * width - (i > wide ? i - wide : 0); }
    int size(int64_t i) const { return width - (i >= wide); }
    int64_t padded() const { return start(count); }
};

// Weights as the tiles read them, of a kind K: per tile [word][gate][unit of the tile]. Behind int8 ones are the scales,
// [gate][unit], and where the sums begin.
struct Packed {
    Tiles tiles;
    int64_t gates, inputs;
    float *data;

    template <class K = Float32> int64_t words() const { return ceil_div(inputs, K::per_word); }
    template <class K = Float32> const float *tile(int64_t i) const {
        return data + tiles.start(i) * gates * words<K>();
    }
    template <class K = Float32> int64_t size() const {
        return tiles.padded() * gates * (words<K>() + (K::bytes ? 2 : 0));
    }
    // Of int8 ones.
    float *scale(int64_t gate, int64_t unit) const {
        return data + (words<Int8>() * gates + gate) * tiles.padded() + unit;
    }
    float *begin(int64_t gate, int64_t unit) const { return scale(gates + gate, unit); }

    // from(gate, unit, k) gives the weight.
    template <class K = Float32, class From> void fill(From from) {
        if constexpr (K::bytes) fill_scales(from);
        float *p = data;
        for (int64_t i = 0; i < tiles.count; i++)
            for (int64_t k = 0; k < inputs; k += K::per_word)
                for (int64_t g = 0; g < gates; g++)
                    for (int u = 0; u < tiles.size(i); u++) {
                        const int64_t unit = tiles.start(i) + u;
                        float w[K::per_word] = {};
                        for (int64_t j = 0; j < smallest(K::per_word, inputs - k) && unit < tiles.outputs; j++) {
                            w[j] = from(g, unit, k + j);
                            if constexpr (K::bytes) w[j] = K::whole(w[j], *scale(g, unit));
                        }
                        K::pack(w, p++);
                    }
    }

  private:
    template <class From> void fill_scales(From from) {
        for (int64_t g = 0; g < gates; g++)
            for (int64_t unit = 0; unit < tiles.padded(); unit++) {
                float magnitude = 0;
                uint32_t total = 0;
                const int64_t count = unit < tiles.outputs ? inputs : 0;
                for (int64_t k = 0; k < count; k++) {
                    const float w = from(g, unit, k), size = w < 0 ? -w : w;
                    if (!(size <= magnitude) && magnitude == magnitude) magnitude = size;  // NaN stays
                }
                *scale(g, unit) = Int8::scale(magnitude);
                for (int64_t k = 0; k < count; k++)
                    total +=
                        static_cast<uint32_t>(static_cast<int32_t>(Int8::whole(from(g, unit, k), *scale(g, unit))));
                total *= static_cast<uint32_t>(-BYTE_ZERO);
                std::memcpy(begin(g, unit), &total, sizeof total);
            }
    }
};

// The same for bytes; x is as to_bytes gives it.
template <class C, bool INPUT, int M, int N>
inline void add_bytes_by_units(V (&s)[C::sums][M * N], const float *const *x, const Packed &w, int64_t tile) {
    const float *p[N];
    Words sums[C::gates][M * N];
    for (int n = 0; n < N; n++) {
        p[n] = w.tile<Int8>(tile + n);
        for (int g = 0; g < C::gates; g++)
            for (int m = 0; m < M; m++) sums[g][m * N + n] = load_words(w.begin(g, (tile + n) * W));
    }
    const int64_t words = w.words<Int8>();
    const float *row[M];
    for (int m = 0; m < M; m++) row[m] = x[m];
    for (int64_t k = 0; k < words; k++) {
        Words value[M];
        for (int m = 0; m < M; m++) value[m] = all_words(row[m] + k);
        for (int n = 0; n < N; n++) {
            for (int g = 0; g < C::gates; g++) {
                const Words weight = load_words(p[n] + g * W);
                for (int m = 0; m < M; m++) sums[g][m * N + n] = add_products(sums[g][m * N + n], value[m], weight);
            }
            p[n] += C::gates * W;
        }
    }
    for (int m = 0; m < M; m++) {
        const V scale = all(row[m][row_words(w.inputs) - 1]);
        for (int n = 0; n < N; n++)
            for (int g = 0; g < C::gates; g++) {
                V &t = s[C::sum_of(INPUT, g)][m * N + n];
                t = fma(to_floats(sums[g][m * N + n]), load(w.scale(g, (tile + n) * W)) * scale, t);
            }
    }
}

// By units: s[sum][row m, vector n] += products of M rows with N neighbouring tiles. Loops around sums are unrolled by
// name, there and where sums begin and end: GCC else keeps the sums in memory in some of the functions.
template <class C, bool INPUT, int M, int N>
inline void add_widened_by_units(V (&s)[C::sums][M * N], const float *const *x, const Packed &w, int64_t tile,
                                 const Piece &piece) {
    using K = WeightsOf<C>;
    const float *p[N];
    for (int n = 0; n < N; n++) p[n] = w.tile<K>(tile + n) + piece.begin / K::per_word * C::gates * W;
    const float *row[M];
    for (int m = 0; m < M; m++) row[m] = x[m];
    for (int64_t k = piece.begin; k < piece.end; k += K::per_word) {
        V value[K::per_word][M];
        for (int i = 0; i < K::per_word; i++)  // where a word has no weight there is a 0
            for (int m = 0; m < M; m++) value[i][m] = all(row[m][i ? smallest(k + i, w.inputs - 1) : k]);
        for (int n = 0; n < N; n++) {
#pragma GCC unroll 8
            for (int g = 0; g < C::gates; g++) {
                V weight[K::per_word];
                if constexpr (AHEAD > 0) __builtin_prefetch(p[n] + g * W + AHEAD);
                K::widen(load(p[n] + g * W), weight);
#pragma GCC unroll 8
                for (int i = 0; i < K::per_word; i++)
#pragma GCC unroll 8
                    for (int m = 0; m < M; m++) {
                        V &t = s[C::sum_of(INPUT, g)][m * N + n];
                        t = fma(value[i][m], weight[i], t);
                    }
            }
            p[n] += C::gates * W;
        }
    }
}

// By rows: s[sum][unit] += products of the W rows at x, [k][lane], with a tile of U units.
template <class C, bool INPUT, int U>
inline void add_by_rows(V (&s)[C::sums][U], const float *x, const Packed &w, int64_t tile) {
    const float *p = w.tile(tile);
    for (int64_t k = 0; k < w.inputs; k++) {
        const V value = load(x + k * W);
        for (int g = 0; g < C::gates; g++)
            for (int u = 0; u < U; u++) {
                V &t = s[C::sum_of(INPUT, g)][u];
                t = fma(value, all(p[g * U + u]), t);
            }
        p += C::gates * U;
    }
}

template <class C, bool INPUT, int M, int N>
inline void add_by_units(V (&s)[C::sums][M * N], const float *const *x, const Packed &w, int64_t tile,
                         const Piece &piece) {
    if constexpr (WeightsOf<C>::bytes)
        add_bytes_by_units<C, INPUT, M, N>(s, x, w, tile);
    else
        add_widened_by_units<C, INPUT, M, N>(s, x, w, tile, piece);
}

// Call f with the number n, from 1 to MOST, as a constant.
template <int N> struct Size {
    static constexpr int value = N;
};
template <int MOST, class F> inline void with_size(int n, F f) {
    if constexpr (MOST > 1) {
        if (n < MOST) return with_size<MOST - 1>(n, f);
    }
    f(Size<MOST>{});
}

// Walk `rows` rows and all tiles by units: f(first row, row behind the last, Size<M>, first tile, Size<N>). The rows are
// inside and a whole number of M, so that a tile's weights stay in the cache while they pass.
template <class C, class F> inline void for_tiles_by_units(int64_t rows, int64_t tiles, F f) {
    for (int64_t first = 0; first < rows;) {
        with_size<MOST_ROWS>(static_cast<int>(smallest(rows - first, MOST_ROWS)), [&](auto size) {
            constexpr int M = decltype(size)::value, MOST = most_vectors<C>(M);
            const int64_t end = M == MOST_ROWS ? first + (rows - first) / M * M : first + M;
            for (int64_t tile = 0; tile < tiles; tile += MOST)
                with_size<MOST>(static_cast<int>(smallest(tiles - tile, MOST)),
                                [&](auto vectors) { f(first, end, size, tile, vectors); });
            first = end;
        });
    }
}

// Walk all tiles by rows: f(tile, Size<U>).
template <class C, class F> inline void for_tiles_by_rows(const Tiles &tiles, F f) {
    for (int64_t i = 0; i < tiles.count; i++)
        with_size<most_units<C>()>(tiles.size(i), [&](auto units) { f(i, units); });
}

// Plain product of rows with weights, added to what is in y (or to the bias, or to 0), by units.
enum class Onto { OUTPUT, BIAS };
inline void product_by_units(int64_t rows, const float *const *x, const Packed &w, const float *bias, Onto onto,
                             float *const *y) {
    const int64_t outputs = w.tiles.outputs;
    const auto compute = [&](int64_t first, int64_t end, auto m_size, int64_t tile, auto n_size) {
        constexpr int M = decltype(m_size)::value, N = decltype(n_size)::value;
        const int64_t pieces = pieces_of<Plain>(w.inputs, N);
        for (int64_t i = 0; i < pieces; i++)
            for (int64_t row = first; row < end; row += M) {
                V s[1][M * N];
                for (int m = 0; m < M; m++)
                    for (int n = 0; n < N; n++) {
                        const int64_t u = (tile + n) * W;
                        const float *from = i || onto == Onto::OUTPUT ? y[row + m] : bias;
                        s[0][m * N + n] = from ? load(from + u, in_vector(outputs - u)) : all(0.0f);
                    }
                add_by_units<Plain, true, M, N>(s, x + row, w, tile, piece_of<Plain>(w.inputs, i, pieces));
                for (int m = 0; m < M; m++)
                    for (int n = 0; n < N; n++) {
                        const int64_t u = (tile + n) * W;
                        store(y[row + m] + u, s[0][m * N + n], in_vector(outputs - u));
                    }
            }
    };
    for_tiles_by_units<Plain>(rows, w.tiles.count, compute);
}

// The same by rows, for W rows.
inline void product_by_rows(const float *x, const Packed &w, bool onto_output, float *y) {
    for_tiles_by_rows<Plain>(w.tiles, [&](int64_t tile, auto size) {
        constexpr int U = decltype(size)::value;
        float *out = y + w.tiles.start(tile) * W;
        V s[1][U];
        for (int u = 0; u < U; u++) s[0][u] = onto_output ? load(out + u * W) : all(0.0f);
        add_by_rows<Plain, true, U>(s, x, w, tile);
        for (int u = 0; u < U; u++) store(out + u * W, s[0][u]);
    });
}

// to (columns, rows) = the transpose of from (rows, columns), whose rows are `stride` apart.
inline void transpose(const float *from, int64_t stride, int64_t rows, int64_t columns, float *to) {
    constexpr int64_t TOGETHER = 16;  // columns: a cache line of a row
    for (int64_t j = 0; j < columns; j += TOGETHER)
        for (int64_t k = 0; k < rows; k++)
            for (int64_t i = j; i < smallest(columns, j + TOGETHER); i++) to[i * rows + k] = from[k * stride + i];
}

// Rows whose products with one another are summed in registers, and the scratch that outer_by_units takes for them.
constexpr int64_t OUTER_ROWS = 128;
constexpr int64_t outer_scratch(int64_t inputs) { return OUTER_ROWS * (inputs + MOST_ROWS); }

// sum[k][j] += the sum over rows of x[row][k] d[row][j]: a weight gradient, transposed. A tile's operands are first
// copied next to one another: rows that are a power of two apart would drive one another out of the cache.
inline void outer_by_units(int64_t rows, const float *const *x, int64_t inputs, const float *d, int64_t d_stride,
                           int64_t outputs, float *scratch, float *sum) {
    constexpr int K = MOST_ROWS, N = ACCUMULATORS / MOST_ROWS;
    for (int64_t begin = 0; begin < rows; begin += OUTER_ROWS) {
        const int64_t count = smallest(rows - begin, OUTER_ROWS);
        for (int64_t k = 0; k < inputs; k += K)
            for (int64_t r = 0; r < count; r++)
                for (int64_t i = 0; i < K; i++)
                    scratch[(k * count) + r * K + i] = k + i < inputs ? x[begin + r][k + i] : 0.0f;
        for (int64_t j = 0; j < outputs; j += N * W)
            with_size<N>(static_cast<int>(smallest(ceil_div(outputs - j, W), N)), [&](auto n_size) {
                constexpr int n_vectors = decltype(n_size)::value;
                int inside[n_vectors];
                for (int n = 0; n < n_vectors; n++) inside[n] = in_vector(outputs - j - n * W);
                float slab[OUTER_ROWS * n_vectors * W];
                for (int64_t r = 0; r < count; r++)
                    for (int n = 0; n < n_vectors; n++)
                        store(slab + (r * n_vectors + n) * W, load(d + (begin + r) * d_stride + j + n * W, inside[n]));
                for (int64_t k = 0; k < inputs; k += K) {
                    V s[K][n_vectors];
                    for (int i = 0; i < K; i++)
                        for (int n = 0; n < n_vectors; n++) s[i][n] = all(0.0f);
                    const float *values = scratch + k * count;
                    for (int64_t r = 0; r < count; r++, values += K)
                        for (int n = 0; n < n_vectors; n++) {
                            const V v = load(slab + (r * n_vectors + n) * W);
                            for (int i = 0; i < K; i++) s[i][n] = fma(all(values[i]), v, s[i][n]);
                        }
                    for (int i = 0; i < smallest(K, inputs - k); i++)
                        for (int n = 0; n < n_vectors; n++) {
                            float *to = sum + (k + i) * outputs + j + n * W;
                            store(to, load(to, inside[n]) + s[i][n], inside[n]);
                        }
                }
            });
    }
}

// The same by rows: x[t] and d + t d_stride are [k][lane] and [j][lane], and the sum is over t and the lanes.
inline void outer_by_rows(int64_t steps, const float *const *x, int64_t inputs, const float *d, int64_t d_stride,
                          int64_t outputs, float *total) {
    constexpr int N = W == 16 ? 5 : 3;
    for (int64_t k = 0; k < inputs; k += N)
        with_size<N>(static_cast<int>(smallest(inputs - k, N)), [&](auto k_size) {
            constexpr int ks = decltype(k_size)::value;
            for (int64_t j = 0; j < outputs; j += N)
                with_size<N>(static_cast<int>(smallest(outputs - j, N)), [&](auto j_size) {
                    constexpr int js = decltype(j_size)::value;
                    V s[ks][js];
                    for (int a = 0; a < ks; a++)
                        for (int b = 0; b < js; b++) s[a][b] = all(0.0f);
                    for (int64_t t = 0; t < steps; t++) {
                        const float *from = d + t * d_stride + j * W;
                        V values[js];
                        for (int b = 0; b < js; b++) values[b] = load(from + b * W);
                        for (int a = 0; a < ks; a++) {
                            const V v = load(x[t] + (k + a) * W);
                            for (int b = 0; b < js; b++) s[a][b] = fma(v, values[b], s[a][b]);
                        }
                    }
                    for (int a = 0; a < ks; a++)
                        for (int b = 0; b < js; b++) total[(k + a) * outputs + j + b] += sum(s[a][b]);
                });
        });
}

}  // namespace streamdrnn::STREAMDRNN_LEVEL
