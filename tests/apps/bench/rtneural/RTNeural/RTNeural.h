// The part of RTNeural's interface that the benchmark uses, computed plainly, in its layout of weights: what a test
// puts in RTNeural's place.
#include <cmath>
#include <vector>

namespace RTNeural {

using Matrix = std::vector<std::vector<float>>;

template <int G, int I, int H> struct Layer {
    float w[I][G * H], u[H][G * H], h[H], c[H], outs[H];

    void setWVals(const Matrix &from) {
        for (int k = 0; k < I; k++)
            for (int i = 0; i < G * H; i++) w[k][i] = from[k][i];
    }
    void setUVals(const Matrix &from) {
        for (int k = 0; k < H; k++)
            for (int i = 0; i < G * H; i++) u[k][i] = from[k][i];
    }
    void reset() {
        for (int i = 0; i < H; i++) h[i] = c[i] = 0;
    }
    float of_x(const float *x, int i) const {
        float sum = 0;
        for (int k = 0; k < I; k++) sum += w[k][i] * x[k];
        return sum;
    }
    float of_h(int i) const {
        float sum = 0;
        for (int k = 0; k < H; k++) sum += u[k][i] * h[k];
        return sum;
    }
    static float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }
};

template <typename T, int I, int H> struct GRULayerT : Layer<3, I, H> {
    float b[2][3 * H];

    void setBVals(const Matrix &from) {
        for (int i = 0; i < 3 * H; i++) b[0][i] = from[0][i], b[1][i] = from[1][i];
    }
    void forward(const float *x) {
        for (int i = 0; i < H; i++) {
            const auto gate = [&](int g) {
                return this->sigmoid(this->of_x(x, g * H + i) + b[0][g * H + i] + this->of_h(g * H + i) +
                                     b[1][g * H + i]);
            };
            const float z = gate(0), r = gate(1), of_h = this->of_h(2 * H + i) + b[1][2 * H + i];
            const float n = std::tanh(this->of_x(x, 2 * H + i) + b[0][2 * H + i] + r * of_h);
            this->outs[i] = (1 - z) * n + z * this->h[i];
        }
        for (int i = 0; i < H; i++) this->h[i] = this->outs[i];
    }
};

template <typename T, int I, int H> struct LSTMLayerT : Layer<4, I, H> {
    float b[4 * H];

    void setBVals(const std::vector<float> &from) {
        for (int i = 0; i < 4 * H; i++) b[i] = from[i];
    }
    void forward(const float *x) {
        for (int i = 0; i < H; i++) {
            const auto sum = [&](int g) { return this->of_x(x, g * H + i) + this->of_h(g * H + i) + b[g * H + i]; };
            this->c[i] = this->sigmoid(sum(1)) * this->c[i] + this->sigmoid(sum(0)) * std::tanh(sum(2));
            this->outs[i] = this->sigmoid(sum(3)) * std::tanh(this->c[i]);
        }
        for (int i = 0; i < H; i++) this->h[i] = this->outs[i];
    }
};

template <typename T, int I, int H, class Only> struct ModelT {
    Only layer;

    template <int> Only &get() { return layer; }
    void reset() { layer.reset(); }
    void forward(const float *x) { layer.forward(x); }
    const float *getOutputs() const { return layer.outs; }
};

}  // namespace RTNeural
