// Single steps from C++, in a loop: of our library, through streamdrnn.h, and of RTNeural's layers, whose sizes are known
// at compile time. from_c.py compiles this for each backend of RTNeural; STREAMDRNN_SIZES is SIZE(I, H) for each size.
#include "streamdrnn.h"

#include <RTNeural/RTNeural.h>

#include <cstring>
#include <vector>

namespace {

struct Steps {
    virtual ~Steps() = default;
    virtual void run(int64_t n, const float *x, float *y) = 0;  // (n, I) -> (n, H)
};

struct Ours : Steps {
    streamdrnn_model *model = nullptr;
    streamdrnn_streams *streams = nullptr;
    streamdrnn_info info;

    ~Ours() override {
        streamdrnn_streams_free(streams);
        streamdrnn_model_free(model);
    }
    void run(int64_t n, const float *x, float *y) override {
        for (int64_t t = 0; t < n; t++)
            streamdrnn_push(streams, 1, x + t * info.input_size, nullptr, y + t * info.output_size, nullptr);
    }
};

using Matrix = std::vector<std::vector<float>>;

// Rows (G H) of torch's, K numbers each, as RTNeural's (K, G H). It has a GRU's update gate before its reset gate.
Matrix turned(const float *rows, int gates, int H, int K) {
    Matrix to(static_cast<size_t>(K), std::vector<float>(static_cast<size_t>(gates * H)));
    for (int g = 0; g < gates; g++)
        for (int u = 0; u < H; u++)
            for (int k = 0; k < K; k++) to[k][(gates == 3 && g < 2 ? 1 - g : g) * H + u] = rows[(g * H + u) * K + k];
    return to;
}

template <int I, int H> void set_bias(RTNeural::GRULayerT<float, I, H> &layer, const Matrix &of_x, const Matrix &of_h) {
    layer.setBVals({of_x[0], of_h[0]});
}
template <int I, int H>
void set_bias(RTNeural::LSTMLayerT<float, I, H> &layer, const Matrix &of_x, const Matrix &of_h) {
    std::vector<float> sum = of_x[0];
    for (size_t i = 0; i < sum.size(); i++) sum[i] += of_h[0][i];
    layer.setBVals(sum);
}

template <int I, int H, class Layer> struct Theirs : Steps {
    RTNeural::ModelT<float, I, H, Layer> model;

    Theirs(int gates, const float *const *weights) {
        Layer &layer = model.template get<0>();
        layer.setWVals(turned(weights[0], gates, H, I));
        layer.setUVals(turned(weights[1], gates, H, H));
        set_bias(layer, turned(weights[2], gates, H, 1), turned(weights[3], gates, H, 1));
        model.reset();
    }
    void run(int64_t n, const float *x, float *y) override {
        for (int64_t t = 0; t < n; t++) {
            model.forward(x + t * I);
            std::memcpy(y + t * H, model.getOutputs(), H * sizeof(float));
        }
    }
};

}  // namespace

extern "C" {

// NULL where there is none.
Steps *ours_new(const void *file, size_t bytes) {
    Ours *const made = new Ours;
    if (streamdrnn_model_load(file, bytes, STREAMDRNN_FLOAT32, nullptr, &made->model, nullptr, 0) == STREAMDRNN_OK &&
        streamdrnn_streams_new(made->model, 1, &made->streams) == STREAMDRNN_OK) {
        streamdrnn_model_info(made->model, &made->info);
        return made;
    }
    delete made;
    return nullptr;
}

// A GRU (3 gates) or an LSTM (4), with torch's four arrays of weights; NULL for sizes that were not compiled.
Steps *rtneural_new(int gates, int inputs, int hidden, const float *const *weights) {
#define SIZE(I, H)                                                                                 \
    if (inputs == I && hidden == H) {                                                              \
        if (gates == 3) return new Theirs<I, H, RTNeural::GRULayerT<float, I, H>>(gates, weights); \
        return new Theirs<I, H, RTNeural::LSTMLayerT<float, I, H>>(gates, weights);                \
    }
    STREAMDRNN_SIZES
    return nullptr;
}

void steps_run(Steps *steps, int64_t n, const float *x, float *y) { steps->run(n, x, y); }
void steps_free(Steps *steps) { delete steps; }

}  // extern "C"
