// A whole model: its front-end, its stack and its head, and how the state of a stream is laid out.
#pragma once
#include "frontend.h"
#include "fusion.h"
#include "linear.h"

namespace streamdrnn::STREAMDRNN_LEVEL {

// Where the parts of a stream's state begin, in floats from the beginning of its record. Each is on a cache line of its
// own.
struct Record {
    int64_t mark;    // what the model is, for snapshots
    int64_t cursor;  // steps that the stream has made
    int64_t filled;  // samples that wait for their frame, at the end of the tail
    int64_t frames;  // frames that have been completed
    int64_t pooled, tail, history, fusion, floats;
    Slots<int64_t> h, c;  // per layer

    void take_memory(int64_t layers, Scratch &memory) { memory.take(h, layers), memory.take(c, layers); }
    void lay_out(const Stack &stack, const FrontEnd &frontend, bool pools) {
        floats = 0;
        const auto place = [this](int64_t count) {
            const int64_t begin = floats;
            floats += round_up(count, 16);
            return begin;
        };
        mark = place(2), cursor = place(2), filled = place(2), frames = place(2);
        pooled = place(pools ? 2 * stack.top() : 0);
        tail = place(largest(0, frontend.d.window - 1));
        history = place(frontend.history() * frontend.base());
        for (int64_t l = 0; l < stack.layers; l++) {
            const int64_t ring = stack.layer[l].d * stack.layer[l].H;
            h[l] = place(ring), c[l] = place(stack.has_c() ? ring : 0);
        }
        fusion = place(stack.taps * stack.top());
    }
};

struct Model : streamdrnn_model {
    Scratch memory;
    FrontEnd frontend;
    Stack stack;
    HeadKind head;
    bool pools_mean;
    int64_t outputs;
    Packed head_weight{};
    float *head_bias = nullptr, *mean = nullptr, *deviation = nullptr;  // mean and deviation: of the features
    Record record;
    uint64_t mark;
    bool complete;  // there was memory

    static void *operator new(size_t bytes) noexcept { return std::malloc(bytes); }
    static void operator delete(void *model) { std::free(model); }

    Model(const Description &d, int weights)
        : frontend(d.frontend),
          stack(d.cell, d.layers, d.layer, d.taps, d.fusion_weight, d.fusion_bias, 1, 1, false, weights), head(d.head),
          pools_mean(d.pools_mean || d.head == HeadKind::EMBEDDER),
          outputs(d.head == HeadKind::NONE ? stack.top() : d.outputs) {
        const int64_t I = d.layer[0].input_size, H = d.layer[d.layers - 1].hidden_size;
        FrameScratch scratch{};
        complete = stack.complete && memory.lay_out([&] {
            frontend.take_memory(memory);
            record.take_memory(d.layers, memory);
            if (hears()) mean = memory.take(I), deviation = memory.take(I);
            if (head == HeadKind::NONE) return;
            head_weight = {Tiles::by_units(outputs), 1, H, memory.take(Tiles::by_units(outputs).padded() * H)};
            head_bias = memory.take(outputs);
        });
        Scratch passing;
        complete = complete && passing.lay_out([&] { scratch = frontend.take_scratch(passing); });
        if (!complete) return;
        frontend.fill(scratch);
        record.lay_out(stack, frontend, pools());
        mark = mark_of(d);
        if (hears()) {
            std::memcpy(mean, d.feature_mean, static_cast<size_t>(I) * sizeof(float));
            std::memcpy(deviation, d.feature_std, static_cast<size_t>(I) * sizeof(float));
        }
        if (head == HeadKind::NONE) return;
        head_weight.fill([&](int64_t, int64_t u, int64_t k) { return d.head_weight[u * H + k]; });
        std::memcpy(head_bias, d.head_bias, static_cast<size_t>(outputs) * sizeof(float));
    }

    bool hears() const { return frontend.d.kind != FrontEndKind::NONE; }
    bool pools() const { return head == HeadKind::CLASSIFIER || head == HeadKind::EMBEDDER; }
    int64_t hop() const { return hears() ? frontend.d.hop_length : 1; }
    int64_t window() const { return hears() ? frontend.d.window : 1; }
    bool is_stack() const { return !hears() && head == HeadKind::NONE && !stack.taps; }
    int64_t inputs() const { return stack.layer[0].I; }       // of the network
    int64_t width() const { return hears() ? 1 : inputs(); }  // of what is pushed
    int64_t most_steps(int64_t n) const { return ceil_div(n, hop()); }

    streamdrnn_info info() const {
        const int32_t rate = hears() ? static_cast<int32_t>(frontend.d.sample_rate) : 0;
        const int64_t bytes = record.floats * static_cast<int64_t>(sizeof(float));
        return {static_cast<int32_t>(head), rate, width(), hop(), window(), stack.top(), outputs, bytes};
    }

    // The outputs for some means (or latest outputs) of the network, a row each.
    void read_out(int64_t rows, const float *const *in, float *const *out) const {
        product_by_units(rows, in, head_weight, head_bias, Onto::BIAS, out);
        constexpr int64_t TOGETHER = 8;
        for (int64_t i = 0; head == HeadKind::EMBEDDER && i < rows; i += TOGETHER)
            to_unit_length<TOGETHER>(smallest(rows - i, TOGETHER), out + i);
    }

  private:
    // As unit_length in streamdrnn/heads.py. A sum waits for its last addition; meanwhile other rows add to theirs.
    template <int64_t TOGETHER> void to_unit_length(int64_t rows, float *const *v) const {
        double squares[TOGETHER] = {};
        for (int64_t i = 0; i < outputs; i++)
            for (int64_t row = 0; row < TOGETHER; row++) {
                const double value = static_cast<double>(v[smallest(row, rows - 1)][i]);
                squares[row] += value * value;
            }
        for (int64_t row = 0; row < rows; row++) {
            const double length = sqrt(squares[row] > 1e-24 ? squares[row] : 1e-24);
            for (int64_t i = 0; i < outputs; i++)
                v[row][i] = static_cast<float>(static_cast<double>(v[row][i]) / length);
        }
    }

    // A number for all that a state's meaning depends on but the weights (FNV-1a).
    static uint64_t mark_of(const Description &d) {
        uint64_t hash = 14695981039346656037u;
        const auto add = [&hash](double number) {
            uint64_t bits;
            std::memcpy(&bits, &number, sizeof bits);
            hash = (hash ^ bits) * 1099511628211u;
        };
        const FrontEndDescription &f = d.frontend;
        const double numbers[] = {static_cast<double>(f.kind),
                                  static_cast<double>(f.sample_rate),
                                  static_cast<double>(f.window),
                                  static_cast<double>(f.win_length),
                                  static_cast<double>(f.hop_length),
                                  static_cast<double>(f.n_mels),
                                  static_cast<double>(f.n_mfcc),
                                  static_cast<double>(f.deltas),
                                  f.fmin,
                                  f.fmax,
                                  static_cast<double>(d.cell),
                                  static_cast<double>(d.taps),
                                  static_cast<double>(d.head),
                                  static_cast<double>(d.pools_mean)};
        for (double number : numbers) add(number);
        for (int64_t l = 0; l < d.layers; l++)
            add(static_cast<double>(d.layer[l].dilation)), add(static_cast<double>(d.layer[l].hidden_size));
        return hash;
    }
};

inline const Model &model_of(const streamdrnn_model *model) { return *static_cast<const Model *>(model); }

}  // namespace streamdrnn::STREAMDRNN_LEVEL
