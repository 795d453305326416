// The discrete Fourier transform of real numbers, in double: any length, always in the same order of sums. T is a double,
// for one transform, or D, for LANES of them side by side; each has the same bits either way.
#pragma once
#include "buffers.h"
#include "simd.h"

#include <math.h>

namespace streamdrnn::STREAMDRNN_LEVEL {

constexpr double PI = 3.141592653589793238462643383279502884;

// Complex numbers, the real and the imaginary parts apart: loops over them then fill vectors.
template <class T> struct Complex {
    T *re, *im;
    Complex operator+(int64_t i) const { return {re + i, im + i}; }
};

// exp(-2 pi i k / n), exact to the last bit or so for any k: the angle is reduced first.
inline void unit_root(int64_t k, int64_t n, double &re, double &im) {
    const double angle = -2 * PI * static_cast<double>(k % n) / static_cast<double>(n);
    re = cos(angle), im = sin(angle);
}

// A complex transform of a length that has only the factors 2, 3 and 5: Stockham's, which needs no reordering (van Loan,
// "Computational Frameworks for the Fast Fourier Transform", 1992, section 1.7).
class Stockham {
  public:
    static bool takes(int64_t n) {
        for (int64_t factor = 2; factor <= 5; factor++)
            while (n % factor == 0) n /= factor;
        return n == 1;
    }
    static int64_t largest_radix(int64_t left) {
        for (int64_t radix = 4; radix >= 2; radix--)
            if (left % radix == 0) return radix;
        return 5;
    }

    void take_memory(int64_t n, Scratch &memory) {
        n_ = n;
        int64_t roots = 0;
        for (int64_t left = n; left > 1; left /= largest_radix(left))
            roots += left / largest_radix(left) * (largest_radix(left) - 1);
        roots_ = {memory.take_some<double>(roots), memory.take_some<double>(roots)};
    }
    void fill() {
        Complex<double> root = roots_;
        for (int64_t left = n_; left > 1; left /= largest_radix(left)) {
            const int64_t radix = largest_radix(left), m = left / radix;
            for (int64_t k = 1; k < radix; k++)
                for (int64_t p = 0; p < m; p++, root = root + 1) unit_root(p * k, left, *root.re, *root.im);
        }
    }

    // Transforms x, with y as scratch; gives where the result is.
    template <class T> Complex<T> run(Complex<T> x, Complex<T> y) const {
        Complex<double> root = roots_;
        int64_t stride = 1;
        for (int64_t left = n_; left > 1;) {
            const int64_t radix = largest_radix(left), m = left / radix;
            if (radix == 4) stage<4>(x, y, m, stride, root);
            if (radix == 3) stage<3>(x, y, m, stride, root);
            if (radix == 2) stage<2>(x, y, m, stride, root);
            if (radix == 5) stage<5>(x, y, m, stride, root);
            root = root + m * (radix - 1);
            left = m, stride *= radix;
            const Complex<T> other = x;
            x = y, y = other;
        }
        return x;
    }

  private:
    // y[q + s (R p + k)] = w^(p k) sum over j of x[q + s (p + m j)] exp(-2 pi i j k / R)
    template <int R, class T>
    static void stage(Complex<T> x, Complex<T> y, int64_t m, int64_t s, Complex<double> root) {
        if (s == 1) {
            for (int64_t p = 0; p < m; p++) butterfly<R>(x + p, m, y + R * p, 1, 1, root + p, m);
        } else {
            for (int64_t p = 0; p < m; p++) butterfly<R>(x + s * p, s * m, y + s * R * p, s, s, root + p, m);
        }
    }

    // `count` butterflies that share their roots, w^k at root + (k - 1) `apart`.
    template <int R, class T>
    static void butterfly(Complex<T> x, int64_t x_step, Complex<T> y, int64_t y_step, int64_t count,
                          Complex<double> root, int64_t apart) {
        double w_re[R], w_im[R];
        w_re[0] = 1, w_im[0] = 0;
        for (int k = 1; k < R; k++) w_re[k] = root.re[(k - 1) * apart], w_im[k] = root.im[(k - 1) * apart];
        const T *__restrict in_re = x.re, *__restrict in_im = x.im;
        T *__restrict out_re = y.re, *__restrict out_im = y.im;
        for (int64_t q = 0; q < count; q++) {
            T a_re[R], a_im[R], b_re[R], b_im[R];
            for (int j = 0; j < R; j++) a_re[j] = in_re[q + j * x_step], a_im[j] = in_im[q + j * x_step];
            small<R>(a_re, a_im, b_re, b_im);
            out_re[q] = b_re[0], out_im[q] = b_im[0];
            for (int k = 1; k < R; k++) {
                out_re[q + k * y_step] = b_re[k] * w_re[k] - b_im[k] * w_im[k];
                out_im[q + k * y_step] = b_re[k] * w_im[k] + b_im[k] * w_re[k];
            }
        }
    }

    // The transform of R numbers.
    template <int R, class T> static void small(const T *a_re, const T *a_im, T *b_re, T *b_im) {
        if constexpr (R == 2) {
            b_re[0] = a_re[0] + a_re[1], b_im[0] = a_im[0] + a_im[1];
            b_re[1] = a_re[0] - a_re[1], b_im[1] = a_im[0] - a_im[1];
        } else if constexpr (R == 4) {
            const T s_re = a_re[0] + a_re[2], s_im = a_im[0] + a_im[2];
            const T d_re = a_re[0] - a_re[2], d_im = a_im[0] - a_im[2];
            const T t_re = a_re[1] + a_re[3], t_im = a_im[1] + a_im[3];
            const T e_re = a_re[1] - a_re[3], e_im = a_im[1] - a_im[3];
            b_re[0] = s_re + t_re, b_im[0] = s_im + t_im;
            b_re[1] = d_re + e_im, b_im[1] = d_im - e_re;
            b_re[2] = s_re - t_re, b_im[2] = s_im - t_im;
            b_re[3] = d_re - e_im, b_im[3] = d_im + e_re;
        } else {
            // cos and sin of 2 pi / 3; and of 2 pi / 5 and 4 pi / 5.
            constexpr double C[3] = {1, R == 3 ? -0.5 : 0.30901699437494742410, -0.80901699437494742410};
            constexpr double S[3] = {0, R == 3 ? 0.86602540378443864676 : 0.95105651629515357212,
                                     0.58778525229247312917};
            b_re[0] = a_re[0], b_im[0] = a_im[0];
            for (int j = 1; j < R; j++) b_re[0] += a_re[j], b_im[0] += a_im[j];
            for (int k = 1; k <= R / 2; k++) {
                T even_re = a_re[0], even_im = a_im[0], odd_re = {}, odd_im = {};
                for (int j = 1; j <= R / 2; j++) {
                    const int turn = j * k % R, at = turn <= R / 2 ? turn : R - turn;
                    const double sine = turn <= R / 2 ? S[at] : -S[at];
                    even_re += C[at] * (a_re[j] + a_re[R - j]), even_im += C[at] * (a_im[j] + a_im[R - j]);
                    odd_re += sine * (a_re[j] - a_re[R - j]), odd_im += sine * (a_im[j] - a_im[R - j]);
                }
                b_re[k] = even_re + odd_im, b_im[k] = even_im - odd_re;
                b_re[R - k] = even_re - odd_im, b_im[R - k] = even_im + odd_re;
            }
        }
    }

    int64_t n_;
    Complex<double> roots_;  // per stage [k - 1][p]
};

// A complex transform of any length. One that Stockham does not take is a convolution with a chirp, by transforms of a
// power of two (Bluestein, "A linear filtering approach to the computation of the discrete Fourier transform", 1970).
class ComplexTransform {
  public:
    void take_memory(int64_t n, Scratch &memory) {
        n_ = n, size_ = n;
        direct_ = Stockham::takes(n);
        if (!direct_)
            for (size_ = 1; size_ < 2 * n - 1;) size_ *= 2;
        stockham_.take_memory(size_, memory);
        if (direct_) return;
        chirp_ = {memory.take_some<double>(n), memory.take_some<double>(n)};
        filter_ = {memory.take_some<double>(size_), memory.take_some<double>(size_)};
    }
    // The scratch of fill() and run(), in T.
    int64_t scratch() const { return 4 * size_; }

    void fill(double *scratch) {
        stockham_.fill();
        if (direct_) return;
        const Complex<double> x{scratch, scratch + size_}, y{scratch + 2 * size_, scratch + 3 * size_};
        for (int64_t i = 0; i < 2 * size_; i++) scratch[i] = 0;
        for (int64_t k = 0; k < n_; k++) {
            unit_root(k * k % (2 * n_), 2 * n_, chirp_.re[k], chirp_.im[k]);
            x.re[k] = chirp_.re[k], x.im[k] = -chirp_.im[k];
            if (k) x.re[size_ - k] = chirp_.re[k], x.im[size_ - k] = -chirp_.im[k];
        }
        const Complex<double> of = stockham_.run(x, y);
        for (int64_t i = 0; i < size_; i++) filter_.re[i] = of.re[i], filter_.im[i] = of.im[i];
    }

    // x, of n at the beginning of `scratch`'s first quarter and second quarter, to where the result is.
    template <class T> Complex<T> input(T *scratch) const { return {scratch, scratch + size_}; }
    template <class T> Complex<T> run(T *scratch) const {
        const Complex<T> x = input(scratch), y{scratch + 2 * size_, scratch + 3 * size_};
        if (direct_) return stockham_.run(x, y);
        for (int64_t k = 0; k < n_; k++) times(x + k, x.re[k], x.im[k], chirp_.re[k], chirp_.im[k]);
        for (int64_t i = n_; i < size_; i++) x.re[i] = x.im[i] = T{};
        const Complex<T> of = stockham_.run(x, y), other = of.re == x.re ? y : x;
        // The inverse transform is the forward one with real and imaginary parts exchanged.
        for (int64_t i = 0; i < size_; i++)
            times(Complex<T>{of.im + i, of.re + i}, of.re[i], of.im[i], filter_.re[i], filter_.im[i]);
        const Complex<T> back = stockham_.run(of, other);
        const double scale = 1.0 / static_cast<double>(size_);
        for (int64_t k = 0; k < n_; k++)
            times(back + k, back.im[k] * scale, back.re[k] * scale, chirp_.re[k], chirp_.im[k]);
        return back;
    }

  private:
    template <class T> static void times(Complex<T> to, T a_re, T a_im, double b_re, double b_im) {
        *to.re = a_re * b_re - a_im * b_im, *to.im = a_re * b_im + a_im * b_re;
    }

    int64_t n_, size_;
    bool direct_;
    Stockham stockham_;
    Complex<double> chirp_, filter_;
};

// The power of each frequency, |X_k|^2 for k from 0 to n / 2, of n real numbers.
class PowerSpectrum {
  public:
    void take_memory(int64_t n, Scratch &memory) {
        n_ = n, half_ = n % 2 ? 0 : n / 2;  // an even number of reals is half as many complex numbers
        transform_.take_memory(half_ ? half_ : n, memory);
        if (half_) roots_ = {memory.take_some<double>(half_), memory.take_some<double>(half_)};
    }
    int64_t bins() const { return n_ / 2 + 1; }
    int64_t scratch() const { return transform_.scratch(); }
    void fill(double *scratch) {
        transform_.fill(scratch);
        for (int64_t k = 0; k < half_; k++) unit_root(k, n_, roots_.re[k], roots_.im[k]);
    }

    // The power of x[i] w[i]; the x of LANES transforms are [i][lane].
    template <class T> void run(const float *x, const double *w, T *scratch, T *power) const {
        const Complex<T> z = transform_.input(scratch);
        const auto at = [&](int64_t i) { return widen<T>(x + i * lanes_of<T>) * w[i]; };
        if (!half_) {
            for (int64_t i = 0; i < n_; i++) z.re[i] = at(i), z.im[i] = T{};
            const Complex<T> of = transform_.run(scratch);
            for (int64_t k = 0; k < bins(); k++) power[k] = of.re[k] * of.re[k] + of.im[k] * of.im[k];
            return;
        }
        for (int64_t i = 0; i < half_; i++) z.re[i] = at(2 * i), z.im[i] = at(2 * i + 1);
        const Complex<T> of = transform_.run(scratch);
        const T first = of.re[0] + of.im[0], last = of.re[0] - of.im[0];
        power[0] = first * first, power[half_] = last * last;
        for (int64_t k = 1; k < half_; k++) {
            // X_k = (Z_k + conj Z_(m-k)) / 2 - i exp(-2 pi i k / n) (Z_k - conj Z_(m-k)) / 2
            const T even_re = of.re[k] + of.re[half_ - k], even_im = of.im[k] - of.im[half_ - k];
            const T odd_re = of.im[k] + of.im[half_ - k], odd_im = of.re[half_ - k] - of.re[k];
            const T re = even_re + odd_re * roots_.re[k] - odd_im * roots_.im[k];
            const T im = even_im + odd_re * roots_.im[k] + odd_im * roots_.re[k];
            power[k] = 0.25 * (re * re + im * im);
        }
    }

  private:
    int64_t n_, half_;
    ComplexTransform transform_;
    Complex<double> roots_;
};

}  // namespace streamdrnn::STREAMDRNN_LEVEL
