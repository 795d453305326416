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
    // What each band hears of a power spectrum, in dB.
    void run(const double *power, double *decibels) const {
        const double *weight = weights_;
        for (int64_t band = 0; band < d_->n_mels; band++) {
            const double *const bins = power + first_[band];
            double sum = 0;
            for (int64_t i = 0; i < count_[band]; i++) sum += bins[i] * *weight++;
            decibels[band] = 10 * log10(sum > 1e-10 ? sum : 1e-10);
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

// What one frame needs while it is computed.
struct FrameScratch {
    double *transform, *power, *decibels;
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
    FrameScratch take_scratch(Scratch &memory) const {
        if (!hears_mel()) return {};
        return {memory.take_some<double>(spectrum_.scratch()), memory.take_some<double>(spectrum_.bins()),
                memory.take_some<double>(d.n_mels)};
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

    // The features of the frame of these samples, a window of them. `before`: the frames that the stream had completed.
    // history: (8, base()), the last of them, which the frame joins; for deltas.
    void run(const float *samples, int64_t before, float *history, const FrameScratch &scratch, float *to) const {
        if (!hears_mel()) {
            std::memcpy(to, samples, static_cast<size_t>(d.window) * sizeof(float));
            return;
        }
        spectrum_.run(samples, hann_, scratch.transform, scratch.power);
        bands_.run(scratch.power, scratch.decibels);
        if (d.kind == FrontEndKind::LOG_MEL) {
            for (int64_t m = 0; m < d.n_mels; m++) to[m] = static_cast<float>(scratch.decibels[m]);
            return;
        }
        for (int64_t k = 0; k < d.n_mfcc; k++) {
            double sum = 0;
            for (int64_t m = 0; m < d.n_mels; m++) sum += dct_[k * d.n_mels + m] * scratch.decibels[m];
            to[k] = static_cast<float>(sum);
        }
        if (d.deltas) add_deltas(before, history, to);
    }

  private:
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
