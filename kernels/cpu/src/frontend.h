// Front-ends: from the samples of a window to the features of a frame, as streamdrnn/audio/frontends.py has them.
#pragma once
#include "description.h"
#include "fft.h"

namespace streamdrnn::STREAMDRNN_LEVEL {

// The mel scale of Slaney's Auditory Toolbox (1998), librosa's default: linear below 1 kHz, logarithmic above.
inline double mel_of_hertz(double hertz) {
    constexpr double PER_MEL = 200.0 / 3, KNEE = 1000;
    return hertz < KNEE ? hertz / PER_MEL : KNEE / PER_MEL + log(hertz / KNEE) * 27 / log(6.4);
}
inline double hertz_of_mel(double mel) {
    constexpr double PER_MEL = 200.0 / 3, KNEE = 15;
    return mel < KNEE ? mel * PER_MEL : KNEE * PER_MEL * exp((mel - KNEE) * log(6.4) / 27);
}

// 10 log10(x) of normal numbers above 0, to some units of the last place, in the same bits at every level. x is 2^e m with
// m from sqrt(1/2) to sqrt(2), and log m is 2 artanh s, s = (m - 1) / (m + 1), whose series ends where it is below that.
inline D decibels(D x) {
    constexpr uint64_t ROOT_OF_HALF = 0x3fe6a09e667f3bcd, EXPONENT = uint64_t{0xfff} << 52,
                       E_1024 = uint64_t{1024} << 52;
    constexpr double DECIBELS = 4.342944819032518276511289189166,
                     LOG_2 = 0.693147180559945309417232121458;            // 10 / ln 10
    const Wholes bits = (Wholes)x, above = bits - ROOT_OF_HALF + E_1024;  // its exponent is e + 1024
    const D m = (D)(bits - (above & EXPONENT) + E_1024);
    const D e = (D)((above >> 52) | 0x4330000000000000) - (4503599627370496.0 + 1024);  // of 2^52 and a whole number
    const D s = (m - 1.0) / (m + 1.0), u = s * s;
    D series = u * (1.0 / 21) + 1.0 / 19;
    for (int k = 17; k >= 1; k -= 2) series = series * u + 1.0 / k;
    return e * (DECIBELS * LOG_2) + s * series * (2 * DECIBELS);
}

// The triangles of librosa.filters.mel, each of area 1: only the bins where they are above 0.
class MelBands {
  public:
    void take_memory(const FrontEndDescription &d, Scratch &memory) {
        d_ = &d;
        memory.take(first_, d.n_mels), memory.take(count_, d.n_mels);
        int64_t weights = 0;
        for (int64_t band = 0; band < d.n_mels; band++) each_weight(band, [&](int64_t, double) { weights++; });
        weights_ = memory.take_some<double>(weights);
    }
    void fill() {
        double *weight = weights_;
        for (int64_t band = 0; band < d_->n_mels; band++) {
            first_[band] = count_[band] = 0;
            each_weight(band, [&](int64_t bin, double w) {
                if (!count_[band]++) first_[band] = bin;
                *weight++ = w;
            });
        }
    }
    // What each band hears of a power spectrum, or of LANES of them, in dB. `heard` is a whole number of D.
    template <class T> void run(const T *power, T *heard) const {
        const double *weight = weights_;
        for (int64_t band = 0; band < d_->n_mels; band++) {
            const T *const bins = power + first_[band];
            T sum{};
            for (int64_t i = 0; i < count_[band]; i++) sum += bins[i] * *weight++;
            heard[band] = sum;
        }
        const int64_t size = d_->n_mels * lanes_of<T>, padded = round_up(size, LANES);
        double *const all_of_them = reinterpret_cast<double *>(heard);
        for (int64_t i = size; i < padded; i++) all_of_them[i] = 1;
        for (int64_t i = 0; i < padded; i += LANES) {
            D sums, least = D{} + 1e-10;
            std::memcpy(&sums, all_of_them + i, sizeof sums);
            sums = decibels(sums > least ? sums : least);
            std::memcpy(all_of_them + i, &sums, sizeof sums);
        }
    }

  private:
    double corner(int64_t i) const {
        const double low = mel_of_hertz(d_->fmin), high = mel_of_hertz(d_->fmax);
        return hertz_of_mel(low + (high - low) * static_cast<double>(i) / static_cast<double>(d_->n_mels + 1));
    }
    template <class F> void each_weight(int64_t band, F f) const {
        const double low = corner(band), middle = corner(band + 1), high = corner(band + 2);
        const double per_bin = static_cast<double>(d_->sample_rate) / static_cast<double>(d_->window);
        const int64_t begin = largest(0, static_cast<int64_t>(low / per_bin) - 1);
        const int64_t end = smallest(d_->window / 2 + 1, static_cast<int64_t>(high / per_bin) + 2);
        for (int64_t bin = begin; bin < end; bin++) {
            const double hertz = static_cast<double>(bin) * per_bin;
            const double rise = (hertz - low) / (middle - low), fall = (high - hertz) / (high - middle);
            const double weight = rise < fall ? rise : fall;
            if (weight > 0) f(bin, weight * 2 / (high - low));
        }
    }

    const FrontEndDescription *d_;
    Slots<int64_t> first_, count_;  // per band, of bins
    double *weights_;
};

constexpr int64_t DELTA_WIDTH = 9, DELTA_HISTORY = DELTA_WIDTH - 1;

// The weight of frame k of nine in the slope, and in the curvature, of the polynomial that fits them best (Savitzky and
// Golay 1964).
inline double delta_weight(int64_t order, int64_t k) {
    const double x = static_cast<double>(k - DELTA_HISTORY / 2);
    return order == 1 ? x / 60 : (3 * x * x - 20) / 462;
}

// What frames need while they are computed: numbers of one frame, or of LANES.
struct FrameScratch {
    double *transform, *power, *decibels, *cepstra;
};

struct Frame {
    int64_t before;   // the frames that its stream had completed
    float *history;   // (8, base()), the last of them, which the frame joins; for deltas
    float *features;  // where they go
};

class FrontEnd {
  public:
    FrontEndDescription d;

    explicit FrontEnd(const FrontEndDescription &d) : d(d) {}

    bool hears_mel() const { return d.kind == FrontEndKind::LOG_MEL || d.kind == FrontEndKind::MFCC; }
    // Features of a frame before their deltas.
    int64_t base() const { return d.kind == FrontEndKind::MFCC ? d.n_mfcc : features_of(d); }
    // Frames that a frame's deltas need.
    int64_t history() const { return d.deltas ? DELTA_HISTORY : 0; }

    void take_memory(Scratch &memory) {
        if (!hears_mel()) return;
        spectrum_.take_memory(d.window, memory);
        hann_ = memory.take_some<double>(d.window);
        bands_.take_memory(d, memory);
        if (d.kind == FrontEndKind::MFCC) dct_ = memory.take_some<double>(d.n_mfcc * d.n_mels);
    }
    // How many frames can be computed together: LANES, or one where that many would not stay in the second cache.
    int64_t together() const { return hears_mel() && spectrum_.scratch() * LANES <= MOST_SCRATCH ? LANES : 1; }
    FrameScratch take_scratch(Scratch &memory) const {
        if (!hears_mel()) return {};
        const auto take = [&](int64_t count) { return memory.take_some<double>(round_up(count * together(), LANES)); };
        return {take(spectrum_.scratch()), take(spectrum_.bins()), take(d.n_mels), take(base())};
    }
    void fill(const FrameScratch &scratch) {
        if (!hears_mel()) return;
        spectrum_.fill(scratch.transform);
        for (int64_t i = 0; i < d.window; i++) {
            const int64_t at = i - (d.window - d.win_length) / 2;
            const bool inside = at >= 0 && at < d.win_length;
            const double turn = 2 * PI * static_cast<double>(at) / static_cast<double>(d.win_length);
            hann_[i] = inside ? 0.5 - 0.5 * cos(turn) : 0;
        }
        bands_.fill();
        if (d.kind != FrontEndKind::MFCC) return;
        // The orthonormal DCT-II.
        for (int64_t k = 0; k < d.n_mfcc; k++)
            for (int64_t m = 0; m < d.n_mels; m++) {
                const double n = static_cast<double>(d.n_mels);
                const double angle = PI / n * (static_cast<double>(m) + 0.5) * static_cast<double>(k);
                dct_[k * d.n_mels + m] = cos(angle) * sqrt((k ? 2 : 1) / n);
            }
    }

    // The features of one frame, whose samples are a window; or of 2 to LANES frames, whose samples are [sample][lane]. The
    // frames of a stream are in their order.
    void run(int64_t count, const float *samples, const Frame *frames, const FrameScratch &scratch) const {
        if (!hears_mel())
            std::memcpy(frames->features, samples, static_cast<size_t>(d.window) * sizeof(float));
        else if (count == 1)
            hear<double>(count, samples, frames, scratch);
        else
            hear<D>(count, samples, frames, scratch);
    }

  private:
    static constexpr int64_t MOST_SCRATCH = 65536;  // doubles: half a megabyte

    template <class T>
    void hear(int64_t count, const float *samples, const Frame *frames, const FrameScratch &scratch) const {
        constexpr int64_t lanes = lanes_of<T>;
        const auto as = [](double *numbers) { return reinterpret_cast<T *>(numbers); };
        spectrum_.run(samples, hann_, as(scratch.transform), as(scratch.power));
        bands_.run(as(scratch.power), as(scratch.decibels));
        const bool is_mfcc = d.kind == FrontEndKind::MFCC;
        for (int64_t k = 0; is_mfcc && k < d.n_mfcc; k++) {
            T sum{};
            for (int64_t m = 0; m < d.n_mels; m++) sum += dct_[k * d.n_mels + m] * as(scratch.decibels)[m];
            as(scratch.cepstra)[k] = sum;
        }
        const double *const from = is_mfcc ? scratch.cepstra : scratch.decibels;
        const int64_t features = base();
        for (int64_t lane = 0; lane < count; lane++) {
            const Frame &frame = frames[lane];
            for (int64_t k = 0; k < features; k++) frame.features[k] = static_cast<float>(from[k * lanes + lane]);
            if (is_mfcc && d.deltas) add_deltas(frame.before, frame.history, frame.features);
        }
    }

    void add_deltas(int64_t before, float *history, float *to) const {
        const int64_t M = d.n_mfcc;
        const size_t frame_bytes = static_cast<size_t>(M) * sizeof(float);
        if (before == 0)  // the first frame is taken to have lasted for ever
            for (int64_t k = 0; k < DELTA_HISTORY; k++) std::memcpy(history + k * M, to, frame_bytes);
        for (int64_t order = 1; order <= d.deltas; order++)
            for (int64_t m = 0; m < M; m++) {
                double sum = 0;
                for (int64_t k = 0; k < DELTA_HISTORY; k++)
                    sum += delta_weight(order, k) * static_cast<double>(history[k * M + m]);
                sum += delta_weight(order, DELTA_HISTORY) * static_cast<double>(to[m]);
                to[order * M + m] = static_cast<float>(sum);
            }
        std::memmove(history, history + M, (DELTA_HISTORY - 1) * frame_bytes);
        std::memcpy(history + (DELTA_HISTORY - 1) * M, to, frame_bytes);
    }

    PowerSpectrum spectrum_;
    MelBands bands_;
    double *hann_ = nullptr, *dct_ = nullptr;
};

}  // namespace streamdrnn::STREAMDRNN_LEVEL
