// A stack's weights, laid out for one of the two ways of computing.
#pragma once
#include "levels.h"
#include "tiles.h"

#include <cstdlib>
#include <initializer_list>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace streamdrnn::STREAMDRNN_LEVEL {

// Large fresh memory costs a fault per page: large pages make them few.
inline void expect_writes(float *p, int64_t floats) {
#ifdef MADV_HUGEPAGE
    constexpr uintptr_t PAGE = 4096, LARGE = 2 << 20;
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(p) + PAGE - 1) / PAGE * PAGE;
    const uintptr_t end = reinterpret_cast<uintptr_t>(p + floats) / PAGE * PAGE;
    if (end >= begin + LARGE) madvise(reinterpret_cast<void *>(begin), end - begin, MADV_HUGEPAGE);
#else
    (void)p, (void)floats;
#endif
}

// Floats on a cache line of their own.
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(int64_t floats) {
        // From a quarter of a large page on, whole ones: they also spare the processor look-ups of addresses.
        constexpr size_t LARGE = 2 << 20;
        const size_t least = static_cast<size_t>(largest(floats, 1)) * sizeof(float);
        const size_t unit = least < LARGE / 4 ? 64 : LARGE, bytes = (least + unit - 1) / unit * unit;
        data_ = static_cast<float *>(std::aligned_alloc(unit, bytes));
        if (!data_) throw std::bad_alloc();
        expect_writes(data_, static_cast<int64_t>(bytes / sizeof(float)));
    }
    Buffer(Buffer &&other) noexcept : data_(other.data_) { other.data_ = nullptr; }
    Buffer &operator=(Buffer &&other) noexcept {
        float *const mine = data_;
        data_ = other.data_;
        other.data_ = mine;
        return *this;
    }
    ~Buffer() { std::free(data_); }

    float *get() const { return data_; }
    static Buffer zeros(int64_t floats) {
        Buffer b(floats);
        std::memset(b.data_, 0, static_cast<size_t>(floats) * sizeof(float));
        return b;
    }

  private:
    float *data_ = nullptr;
};

// As many things as are known at run time only.
template <class T> class Array {
  public:
    Array() = default;
    explicit Array(int64_t count) : items_(new T[static_cast<size_t>(count)]()) {}
    Array(const Array &) = delete;
    Array &operator=(Array &&other) noexcept {
        T *const mine = items_;
        items_ = other.items_;
        other.items_ = mine;
        return *this;
    }
    ~Array() { delete[] items_; }
    T &operator[](int64_t i) const { return items_[i]; }

  private:
    T *items_ = nullptr;
};

// The scratch memory of a pass in one piece. `layout` is called twice: first to add up what it takes, then to hand it out.
class Scratch {
  public:
    template <class Layout> void lay_out(Layout layout) {
        taken_ = 0;
        layout();
        memory_ = Buffer(taken_);
        taken_ = 0;
        layout();
    }
    float *take(int64_t floats) {
        float *const p = memory_.get() ? memory_.get() + taken_ : nullptr;
        taken_ += ceil_div(floats, 16) * 16;
        return p;
    }

  private:
    Buffer memory_;
    int64_t taken_ = 0;
};

struct Layer {
    int64_t I, H, d;
    Packed from_input, from_state;  // forward
    Packed to_input, to_state;      // backward: from the gradients of the gates
    float *bias;                    // [sum][bias_stride]
    int64_t bias_stride;
};

struct Stack : streamdrnn_stack {
    int cell;
    int64_t layers;
    bool by_rows;
    Scratch memory;
    Array<Layer> layer;
    int64_t taps;
    Array<Packed> tap;
    float *fusion_bias;  // NULL where there is none
    int64_t step_rows;   // for how many rows there is scratch for single steps
    float *step_scratch;

    int64_t top() const { return layer[layers - 1].H; }
    int64_t widest() const {
        int64_t widest = 0;
        for (int64_t l = 0; l < layers; l++) widest = largest(widest, layer[l].H);
        return widest;
    }
    bool has_c() const { return cell == STREAMDRNN_LSTM; }
    int64_t units() const {
        int64_t total = 0;
        for (int64_t l = 0; l < layers; l++) total += layer[l].H;
        return total;
    }
    int64_t multiply_adds() const {  // of one row
        int64_t total = 0;
        for (int64_t l = 0; l < layers; l++) total += layer[l].H * (layer[l].I + layer[l].H);
        return total * (cell == STREAMDRNN_RNN ? 1 : cell == STREAMDRNN_GRU ? 3 : 4);
    }
};

inline const Stack &stack_of(const streamdrnn_stack *stack) { return *static_cast<const Stack *>(stack); }

template <class F> inline void with_cell(int cell, F f) {
    if (cell == STREAMDRNN_RNN) return f(Rnn{});
    if (cell == STREAMDRNN_GRU) return f(Gru{});
    f(Lstm{});
}

// Below this many multiply-adds a thread costs more than it brings.
inline int useful_threads(int threads, int64_t multiply_adds) {
    return static_cast<int>(largest(1, smallest(threads, multiply_adds / 2'000'000)));
}

template <class C> void lay_out(Layer &to, const streamdrnn_layer &from, bool by_rows, bool gradients,
                                Scratch &memory) {
    const int64_t I = from.input_size, H = from.hidden_size, K = C::gates * H;
    to.I = I, to.H = H, to.d = from.dilation;
    const Tiles units = by_rows ? Tiles::by_rows(H, most_units<C>()) : Tiles::by_units(H);
    const auto take = [&](const Tiles &tiles, int64_t gates, int64_t inputs) {
        return Packed{tiles, gates, inputs, memory.take(tiles.padded() * gates * inputs)};
    };
    to.bias_stride = ceil_div(H, W) * W;
    to.bias = memory.take(C::sums * to.bias_stride);
    to.from_state = take(units, C::gates, H);
    to.from_input = take(units, C::gates, I);
    if (!gradients) return;
    to.to_state = take(by_rows ? Tiles::by_rows(H, most_units<Plain>()) : Tiles::by_units(H), 1, K);
    to.to_input = take(by_rows ? Tiles::by_rows(I, most_units<Plain>()) : Tiles::by_units(I), 1, K);
}

template <class C> void fill(Layer &to, const streamdrnn_layer &from, bool gradients) {
    const int64_t I = from.input_size, H = from.hidden_size;
    std::memset(to.bias, 0, static_cast<size_t>(C::sums * to.bias_stride) * sizeof(float));
    for (const bool of_input : {true, false})
        if (const float *b = of_input ? from.b_ih : from.b_hh)
            for (int g = 0; g < C::gates; g++)
                for (int64_t u = 0; u < H; u++) to.bias[C::sum(of_input, g) * to.bias_stride + u] += b[g * H + u];
    to.from_input.fill([&](int64_t g, int64_t u, int64_t k) { return from.w_ih[(g * H + u) * I + k]; });
    to.from_state.fill([&](int64_t g, int64_t u, int64_t k) { return from.w_hh[(g * H + u) * H + k]; });
    if (!gradients) return;
    to.to_input.fill([&](int64_t, int64_t u, int64_t k) { return from.w_ih[k * I + u]; });
    to.to_state.fill([&](int64_t, int64_t u, int64_t k) {
        return from.w_hh[(C::gate(static_cast<int>(k / H)) * H + k % H) * H + u];
    });
}

// By rows pays where rows fill the vectors better than units do, and the chunk is worth interleaving the rows.
inline bool better_by_rows(int64_t layers, const streamdrnn_layer *layer, int64_t steps, int64_t batch_size) {
    if (batch_size < 8 || steps < 8) return false;
    double rows = 0, units = 0;
    for (int64_t l = 0; l < layers; l++) {
        const double work = static_cast<double>(layer[l].hidden_size);
        rows += work * static_cast<double>(ceil_div(batch_size, W) * W) / static_cast<double>(batch_size);
        units += static_cast<double>(ceil_div(layer[l].hidden_size, W) * W);
    }
    return rows < units;
}

inline streamdrnn_stack *stack_new(const Kernels *kernels, int cell, int64_t layers, const streamdrnn_layer *layer,
                                   int64_t taps, const float *fusion_weight, const float *fusion_bias, int64_t steps,
                                   int64_t batch_size, int gradients) {
    struct Owner {
        Stack *stack = new Stack();
        ~Owner() { delete stack; }
    } owner;
    Stack &s = *owner.stack;
    s.kernels = kernels;
    s.cell = cell, s.layers = layers;
    s.by_rows = better_by_rows(layers, layer, steps, batch_size);
    s.layer = Array<Layer>(layers);
    s.taps = taps, s.tap = Array<Packed>(taps);
    s.step_rows = largest(1, batch_size);
    const int64_t H = layer[layers - 1].hidden_size;
    with_cell(cell, [&](auto c) {
        using C = decltype(c);
        s.memory.lay_out([&] {
            for (int64_t l = 0; l < layers; l++) lay_out<C>(s.layer[l], layer[l], s.by_rows, gradients, s.memory);
            for (int64_t i = 0; i < taps; i++)
                s.tap[i] = {Tiles::by_units(H), 1, H, s.memory.take(Tiles::by_units(H).padded() * H)};
            s.fusion_bias = fusion_bias ? s.memory.take(H) : nullptr;
            // Two rows per stream: a layer reads the one and writes the other. The fusion needs as many.
            s.step_scratch = s.memory.take(2 * s.step_rows * s.widest());
        });
        for (int64_t l = 0; l < layers; l++) fill<C>(s.layer[l], layer[l], gradients);
    });
    for (int64_t i = 0; i < taps; i++)
        s.tap[i].fill([&](int64_t, int64_t u, int64_t k) { return fusion_weight[(u * H + k) * taps + i]; });
    if (fusion_bias) std::memcpy(s.fusion_bias, fusion_bias, static_cast<size_t>(H) * sizeof(float));
    owner.stack = nullptr;
    return &s;
}

}  // namespace streamdrnn::STREAMDRNN_LEVEL
