// Exercises the C interface of the native kernels, for sanitizers to watch: every cell and level of instructions,
// awkward sizes, buffers of exactly the size that is needed. It prints the first error and ends with 1.
//
//   exercise run      results: finite, in range, and the same bits whole, in chunks, by steps, and on any threads;
//                     every other buffer ends where memory that cannot be touched begins
//   exercise steps    a thousand single steps take no memory (link with --wrap for the names below)
//   exercise threads  chunks that are worth four threads, forward and backward
//   exercise levels   the levels of instructions that there are, one a line
//
// A level as second argument restricts it to that one.
#include "streamdrnn_cpu.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

// ---- counting the memory that is taken

static long taken = 0;

extern "C" {
void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void *__real_aligned_alloc(size_t, size_t);
int __real_posix_memalign(void **, size_t, size_t);
void *__real_mmap(void *, size_t, int, int, int, off_t);
void *__real__Znwm(size_t);
void *__real__Znam(size_t);
void *__wrap_malloc(size_t n) { return taken++, __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) { return taken++, __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t n) { return taken++, __real_realloc(p, n); }
void *__wrap_aligned_alloc(size_t a, size_t n) { return taken++, __real_aligned_alloc(a, n); }
int __wrap_posix_memalign(void **p, size_t a, size_t n) { return taken++, __real_posix_memalign(p, a, n); }
void *__wrap_mmap(void *p, size_t n, int a, int b, int c, off_t d) { return taken++, __real_mmap(p, n, a, b, c, d); }
void *__wrap__Znwm(size_t n) { return taken++, __real__Znwm(n); }
void *__wrap__Znam(size_t n) { return taken++, __real__Znam(n); }
}

// ---- the exercises

static std::string doing;

static void require(bool fine, const char *what) {
    if (fine) return;
    std::printf("%s: %s\n", doing.c_str(), what);
    std::exit(1);
}

static uint64_t seed = 1;
static uint64_t random_bits() { return seed = seed * 6364136223846793005u + 1442695040888963407u, seed >> 33; }
static float random_float() { return static_cast<float>(random_bits() % 20001) / 10000.0f - 1.0f; }

// Exactly so many things. Every other one ends where a page begins that nobody may touch: the address sanitizer does
// not see vectors that are loaded in part, but the processor does.
template <class T> class Exact {
  public:
    explicit Exact(int64_t count) : count_(count), bytes_(static_cast<size_t>(count) * sizeof(T)) {
        static int made = 0;
        if (made++ % 2) {
            p_ = static_cast<T *>(std::malloc(bytes_));
        } else {
            const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
            mapped_ = (bytes_ + page - 1) / page * page + page;
            pages_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            require(pages_ != MAP_FAILED, "no memory for the test");
            char *const end = static_cast<char *>(pages_) + mapped_ - page;
            require(mprotect(end, page, PROT_NONE) == 0, "cannot protect a page");
            p_ = reinterpret_cast<T *>(end - bytes_);
        }
        if (count) std::memset(static_cast<void *>(p_), 0xff, bytes_);  // NaN until it is written
    }
    Exact(const Exact &other) : Exact(other.count_) {
        if (count_) std::memcpy(static_cast<void *>(p_), other.p_, bytes_);
    }
    Exact &operator=(const Exact &) = delete;
    ~Exact() {
        if (pages_)
            munmap(pages_, mapped_);
        else
            std::free(p_);
    }
    static Exact random(int64_t count, float scale) {
        Exact e(count);
        for (int64_t i = 0; i < count; i++) e.p_[i] = scale * random_float();
        return e;
    }

    T *get() const { return p_; }
    T &operator[](int64_t i) const { return p_[i]; }
    bool operator==(const Exact &o) const { return bytes_ == o.bytes_ && (!bytes_ || !std::memcmp(p_, o.p_, bytes_)); }
    bool finite() const {
        for (int64_t i = 0; i < count_; i++)
            if (!std::isfinite(p_[i])) return false;
        return true;
    }
    float largest() const {
        float m = 0;
        for (int64_t i = 0; i < count_; i++) m = std::fmax(m, std::fabs(p_[i]));
        return m;
    }

  private:
    int64_t count_;
    size_t bytes_, mapped_ = 0;
    void *pages_ = nullptr;
    T *p_;
};
using Floats = Exact<float>;
using Ints = Exact<int64_t>;

struct Cell {
    const char *name;
    int64_t gates;
    bool has_c;
};
static const Cell CELLS[] = {{"rnn", 1, false}, {"gru", 3, false}, {"lstm", 4, true}};  // by their numbers
constexpr int CELL_COUNT = sizeof CELLS / sizeof *CELLS;

struct Sizes {
    int cell;
    int64_t I;
    std::vector<std::pair<int64_t, int64_t>> layers;  // H, d
    int64_t T, B, taps;
    bool bias, with_lengths;
    int held = STREAMDRNN_FLOAT32;  // the weights

    int64_t gates() const { return CELLS[cell].gates; }
    int64_t top() const { return layers.back().first; }
    int64_t inputs(size_t l) const { return l ? layers[l - 1].first : I; }
    std::string text() const {
        std::string s = std::string(streamdrnn_level()) + " " + CELLS[cell].name + " I=" + std::to_string(I);
        for (const auto &[H, d] : layers) s += " (H=" + std::to_string(H) + " d=" + std::to_string(d) + ")";
        return s + " T=" + std::to_string(T) + " B=" + std::to_string(B) + " taps=" + std::to_string(taps) +
               (bias ? "" : " no bias") + (with_lengths ? " lengths" : "") + " weights " + std::to_string(held);
    }
};

struct Weights {
    std::vector<Floats> held;
    std::vector<streamdrnn_layer> layers;
    Floats fusion, fusion_bias;

    explicit Weights(const Sizes &s)
        : fusion(Floats::random(s.top() * s.top() * s.taps, 0.3f)), fusion_bias(Floats::random(s.top(), 0.3f)) {
        held.reserve(4 * s.layers.size());
        for (size_t l = 0; l < s.layers.size(); l++) {
            const auto [H, d] = s.layers[l];
            const int64_t I = s.inputs(l), rows = s.gates() * H;
            const float scale = 1 / std::sqrt(static_cast<float>(H));
            const auto weight = [&](int64_t n) { return held.push_back(Floats::random(n, scale)), held.back().get(); };
            streamdrnn_layer layer{I, H, d, weight(rows * I), weight(rows * H), nullptr, nullptr};
            if (s.bias) layer.b_ih = weight(rows), layer.b_hh = weight(rows);
            layers.push_back(layer);
        }
    }
    streamdrnn_stack *stack(const Sizes &s, int64_t steps, int64_t batch_size, bool gradients) const {
        streamdrnn_stack *const made = streamdrnn_stack_new(
            s.cell, static_cast<int64_t>(layers.size()), layers.data(), s.taps, s.taps ? fusion.get() : nullptr,
            s.taps && s.bias ? fusion_bias.get() : nullptr, steps, batch_size, gradients, s.held);
        require(made, "no stack");
        return made;
    }
};

struct State {
    std::vector<Floats> h, c;
    Floats fusion;
    Ints cursor;
    std::vector<float *> h_pointers, c_pointers;

    explicit State(const Sizes &s) : fusion(Floats::random(s.taps * s.B * s.top(), 0.9f)), cursor(s.B) {
        h.reserve(s.layers.size()), c.reserve(s.layers.size());
        for (const auto &[H, d] : s.layers) {
            h.push_back(Floats::random(d * s.B * H, 0.9f));
            if (CELLS[s.cell].has_c) c.push_back(Floats::random(d * s.B * H, 0.9f));
        }
        for (int64_t b = 0; b < s.B; b++)
            cursor[b] = static_cast<int64_t>(random_bits() % 1000) + (b % 3 == 2 ? int64_t{1} << 55 : 0);
    }
    State(const State &) = default;

    streamdrnn_state view(const Sizes &s) {
        h_pointers.clear(), c_pointers.clear();
        for (const Floats &ring : h) h_pointers.push_back(ring.get());
        for (const Floats &ring : c) c_pointers.push_back(ring.get());
        return {s.B, h_pointers.data(), c.empty() ? nullptr : c_pointers.data(), fusion.get(), cursor.get()};
    }
    bool same(const State &o, bool with_fusion) const {
        return h == o.h && c == o.c && cursor == o.cursor && (!with_fusion || fusion == o.fusion);
    }
};

struct Gradients {
    std::vector<Floats> held;
    std::vector<streamdrnn_layer_gradients> targets;

    Gradients(const Sizes &s, bool of_bias) {
        held.reserve(4 * s.layers.size());
        for (size_t l = 0; l < s.layers.size(); l++) {
            const int64_t H = s.layers[l].first, rows = s.gates() * H;
            const auto target = [&](int64_t n) { return held.emplace_back(n), held.back().get(); };
            streamdrnn_layer_gradients to{target(rows * s.inputs(l)), target(rows * H), nullptr, nullptr};
            if (of_bias) to.b_ih = target(rows), to.b_hh = target(rows);
            targets.push_back(to);
        }
    }
};

static void exercise(const Sizes &s, std::initializer_list<int> threads) {
    doing = s.text();
    const int64_t T = s.T, B = s.B, H = s.top();
    const Weights weights(s);
    State start(s);
    Floats x = Floats::random(T * B * s.I, 2.0f);
    Ints lengths(B);
    for (int64_t b = 0; b < B; b++) lengths[b] = static_cast<int64_t>(random_bits() % static_cast<uint64_t>(T + 1));
    const int64_t *const own = s.with_lengths ? lengths.get() : nullptr;
    const bool trains = s.held == STREAMDRNN_FLOAT32;
    streamdrnn_stack *const stack = weights.stack(s, T, B, trains);
    streamdrnn_stack *const other = weights.stack(s, 1, 1, false);  // laid out for another chunk
    streamdrnn_stack *const many = weights.stack(s, 64, 64, trains);

    // Forward: whole, without saving, in chunks on the other stacks, and from the beginning.
    Floats y(T * B * H), saved(trains ? streamdrnn_saved_size(stack, T, B) : 0);
    float *const keep = trains ? saved.get() : nullptr;
    State before(start), after(s), again(s);
    const streamdrnn_state from = before.view(s), to = after.view(s), to_again = again.view(s);
    require(streamdrnn_forward(stack, &from, &to, T, x.get(), own, y.get(), keep, 1) == STREAMDRNN_OK, "forward");
    require(before.same(start, true), "forward wrote the state before");
    require(y.finite() && y.largest() <= 1, "y is not finite, or too large");
    for (const Floats &ring : after.h) require(ring.finite() && ring.largest() <= 1, "h is not finite, or too large");
    for (const Floats &ring : after.c) require(ring.finite(), "c is not finite");
    for (int64_t b = 0; b < B; b++)
        require(after.cursor[b] == start.cursor[b] + (own ? own[b] : T), "the clocks are wrong");
    for (int64_t t = 0; own && t < T; t++)
        for (int64_t b = 0; b < B; b++)
            for (int64_t u = 0; t >= own[b] && u < H; u++)
                require(y[(t * B + b) * H + u] == 0, "y where no step was made");
    const auto try_again = [&](const streamdrnn_stack *with, int n_threads, bool save, const char *what) {
        save = save && trains;
        Floats y_again(T * B * H), saved_again(save ? streamdrnn_saved_size(with, T, B) : 0);
        require(streamdrnn_forward(with, &from, &to_again, T, x.get(), own, y_again.get(),
                                   save ? saved_again.get() : nullptr, n_threads) == STREAMDRNN_OK,
                what);
        require(y_again == y && again.same(after, false), what);
    };
    try_again(stack, 1, false, "other bits without saving");
    try_again(other, 1, false, "other bits on a stack for single steps");
    try_again(many, 1, true, "other bits on a stack for many streams");
    for (const int n : threads) try_again(stack, n, true, "other bits on other threads");
    if (!own) {
        State one(start), two(start);
        streamdrnn_state views[2] = {one.view(s), two.view(s)};
        int at = 0;
        Floats y_chunks(T * B * H);
        const std::initializer_list<int64_t> cuts = {1, T / 3, T / 3, T};
        int64_t begin = 0;
        for (const int64_t most : cuts) {
            const int64_t n = most < T - begin ? most : T - begin;
            Floats x_part(n * B * s.I), y_part(n * B * H);
            if (n > 0 && B > 0)
                std::memcpy(x_part.get(), x.get() + begin * B * s.I, static_cast<size_t>(n * B * s.I) * sizeof(float));
            const streamdrnn_stack *const with = at ? many : stack;
            require(streamdrnn_forward(with, &views[at], &views[1 - at], n, x_part.get(), nullptr, y_part.get(),
                                       nullptr, 1) == STREAMDRNN_OK,
                    "a chunk");
            if (n > 0 && B > 0)
                std::memcpy(y_chunks.get() + begin * B * H, y_part.get(),
                            static_cast<size_t>(n * B * H) * sizeof(float));
            at = 1 - at, begin += n;
        }
        require(begin == T && y_chunks == y && (at ? two : one).same(after, false), "other bits in chunks");
    }
    require(streamdrnn_forward(stack, nullptr, &to_again, T, x.get(), own, y.get(), keep, 1) == STREAMDRNN_OK, "start");
    require(y.finite(), "not finite from the beginning");

    // Backward: after a forward pass from the state, and from the beginning.
    for (const bool from_state : {true, false}) {
        if (!trains) break;
        require(streamdrnn_forward(stack, from_state ? &from : nullptr, &to_again, T, x.get(), own, y.get(),
                                   saved.get(), 1) == STREAMDRNN_OK,
                "forward");
        const Floats dy = Floats::random(T * B * H, 1.0f), saved_before(saved), dy_before(dy);
        const State incoming(s);
        State blank(s);
        streamdrnn_state seen = from;
        if (!from_state) seen.h = nullptr, seen.c = nullptr, seen.cursor = blank.cursor.get();
        for (int64_t b = 0; b < B; b++) blank.cursor[b] = 0;
        State d_want(incoming);
        Floats dx_want(T * B * s.I);
        const Gradients want(s, s.bias);
        const streamdrnn_state d_after = d_want.view(s);
        require(streamdrnn_backward(stack, &seen, T, x.get(), own, saved.get(), dy.get(), &d_after, dx_want.get(),
                                    want.targets.data(), 1) == STREAMDRNN_OK,
                "backward");
        require(saved == saved_before && dy == dy_before, "backward wrote its inputs");
        require(dx_want.finite(), "dx is not finite");
        for (const Floats &g : want.held) require(g.finite(), "a weight's gradient is not finite");
        for (const Floats &g : d_want.h) require(g.finite(), "a ring's gradient is not finite");
        for (const Floats &g : d_want.c) require(g.finite(), "a ring's gradient is not finite");
        std::vector<std::pair<int, bool>> ways{{1, false}};
        for (const int n : threads) ways.emplace_back(n, true);
        for (const auto &[n, all] : ways) {
            State d_got(incoming);
            Floats dx_got(T * B * s.I);
            const Gradients got(s, s.bias && all);
            const streamdrnn_state d_view = d_got.view(s);
            require(streamdrnn_backward(stack, &seen, T, x.get(), own, saved.get(), dy.get(), &d_view,
                                        all ? dx_got.get() : nullptr, got.targets.data(), n) == STREAMDRNN_OK,
                    "backward");
            require(d_got.h == d_want.h && d_got.c == d_want.c, "other bits of the rings' gradients");
            require(!all || dx_got == dx_want, "other bits of dx");
            require(!all || got.held == want.held, "other bits of the weights' gradients");
        }
    }

    // Live: in one piece and by single steps, with the fusion; NaN and infinity are refused.
    const auto live_on = [&](const streamdrnn_stack *with, State &state) {
        return streamdrnn_live{with, state.view(s)};
    };
    State whole(start), stepped(start);
    streamdrnn_stack *const single = weights.stack(s, 1, B, false);
    const streamdrnn_live live = live_on(single, whole), steps = live_on(single, stepped);
    Floats y_whole(T * B * H), y_steps(T * B * H), x_t(B * s.I), y_t(B * H);
    if (T > 0 && B > 0) {
        Floats bad(x);
        int64_t where = static_cast<int64_t>(random_bits() % static_cast<uint64_t>(T * B * s.I));
        if (own) {
            where = -1;
            for (int64_t b = 0; b < B; b++)
                if (own[b]) where = ((own[b] - 1) * B + b) * s.I;
        }
        if (where >= 0) {
            bad[where] = where % 2 ? NAN : -INFINITY;
            require(streamdrnn_run(&live, T, bad.get(), own, y_whole.get(), 1) == STREAMDRNN_NOT_FINITE,
                    "NaN was taken");
            require(whole.same(start, true), "a refused input changed the state");
        }
    }
    for (int64_t t = 0; own && t < T; t++)
        for (int64_t b = 0; b < B; b++)
            for (int64_t i = 0; t >= own[b] && i < s.I; i++) x[(t * B + b) * s.I + i] = NAN;
    require(streamdrnn_run(&live, T, x.get(), own, y_whole.get(), 1) == STREAMDRNN_OK, "run");
    require(y_whole.finite(), "a live output is not finite");
    if (!own) {
        for (int64_t t = 0; t < T; t++) {
            if (B) std::memcpy(x_t.get(), x.get() + t * B * s.I, static_cast<size_t>(B * s.I) * sizeof(float));
            require(streamdrnn_step(&steps, x_t.get(), y_t.get()) == STREAMDRNN_OK, "step");
            if (B) std::memcpy(y_steps.get() + t * B * H, y_t.get(), static_cast<size_t>(B * H) * sizeof(float));
        }
        require(y_whole == y_steps && whole.same(stepped, true), "other bits by single steps");
    }
    if (s.taps == 0 && !own) {
        Floats direct(T * B * H);
        State end(s);
        const streamdrnn_state end_view = end.view(s);
        streamdrnn_forward(stack, &from, &end_view, T, x.get(), nullptr, direct.get(), nullptr, 1);
        require(y_whole == direct, "live streams give other bits");
    }
    for (streamdrnn_stack *const with : {other, many}) {
        State state(start);
        Floats y_other(T * B * H);
        const streamdrnn_live elsewhere = live_on(with, state);
        require(streamdrnn_run(&elsewhere, T, x.get(), own, y_other.get(), 3) == STREAMDRNN_OK, "run");
        require(y_other == y_whole && state.same(whole, true),
                "live streams give other bits on a stack for other sizes");
    }
    for (streamdrnn_stack *s_ : {stack, other, many, single}) streamdrnn_stack_free(s_);
}

static void exercise_linear(int64_t N, int64_t K, int64_t M, int threads) {
    doing = std::string(streamdrnn_level()) + " linear " + std::to_string(N) + " " + std::to_string(K) + " " +
            std::to_string(M);
    const Floats x = Floats::random(N * K, 1), w = Floats::random(M * K, 1), b = Floats::random(M, 1),
                 dy = Floats::random(N * M, 1);
    Floats y(N * M), plain(N * M), again(N * M), dx(N * K), dw(M * K), db(M);
    require(streamdrnn_linear(N, K, M, x.get(), w.get(), b.get(), y.get(), 1) == STREAMDRNN_OK && y.finite(), "linear");
    require(streamdrnn_linear(N, K, M, x.get(), w.get(), nullptr, plain.get(), 1) == STREAMDRNN_OK && plain.finite(),
            "no bias");
    require(streamdrnn_linear(N, K, M, x.get(), w.get(), b.get(), again.get(), threads) == STREAMDRNN_OK && again == y,
            "threads");
    for (int64_t n = 0; n < N; n += 1 + N / 5) {
        Floats row(M);
        require(streamdrnn_linear(1, K, M, x.get() + n * K, w.get(), b.get(), row.get(), 1) == STREAMDRNN_OK, "a row");
        require(!std::memcmp(row.get(), y.get() + n * M, static_cast<size_t>(M) * sizeof(float)),
                "other bits of a row alone");
    }
    require(streamdrnn_linear_backward(N, K, M, x.get(), w.get(), dy.get(), dx.get(), dw.get(), db.get(), threads) ==
                    STREAMDRNN_OK &&
                dx.finite() && dw.finite() && db.finite(),
            "backward");
    for (int left_out = 0; left_out < 8; left_out++) {
        Floats dx2(N * K), dw2(M * K), db2(M);
        require(streamdrnn_linear_backward(N, K, M, x.get(), w.get(), dy.get(), left_out & 1 ? nullptr : dx2.get(),
                                           left_out & 2 ? nullptr : dw2.get(), left_out & 4 ? nullptr : db2.get(),
                                           1) == STREAMDRNN_OK,
                "backward");
        require((left_out & 1 || dx2 == dx) && (left_out & 2 || dw2 == dw) && (left_out & 4 || db2 == db),
                "other bits where less is asked for, or on other threads");
    }
}

static void run() {
    for (int cell = 0; cell < CELL_COUNT; cell++) {
        for (const bool lengths : {false, true}) {
            exercise({cell, 3, {{5, 2}, {17, 1}, {4, 7}}, 11, 3, 0, true, lengths}, {2});
            exercise({cell, 17, {{20, 3}, {33, 70}}, 21, 1, 3, true, lengths}, {});
            exercise({cell, 1, {{1, 1}}, 1, 1, 0, false, lengths}, {});
            exercise({cell, 16, {{16, 4}, {8, 2}}, 12, 40, 4, false, lengths}, {});
            exercise({cell, 5, {{17, 5}, {3, 1}, {20, 30}}, 13, 19, 0, true, lengths}, {3});  // by rows
            exercise({cell, 2, {{5, 2}}, 10, 35, 2, true, lengths}, {});
            for (const int held : {STREAMDRNN_BFLOAT16, STREAMDRNN_INT8}) {
                exercise({cell, 3, {{5, 2}, {17, 1}, {4, 7}}, 11, 3, 0, true, lengths, held}, {2});
                exercise({cell, 17, {{20, 3}, {33, 70}}, 21, 1, 3, true, lengths, held}, {});
                exercise({cell, 1, {{1, 1}}, 1, 1, 0, false, lengths, held}, {});
                exercise({cell, 6, {{18, 4}, {8, 2}}, 12, 40, 4, false, lengths, held}, {});
            }
        }
        exercise({cell, 2, {{5, 4}, {2, 1}}, 8, 290, 0, true, true}, {});    // by rows, more batches than groups
        exercise({cell, 5, {{150, 1}, {40, 3}}, 7, 1, 0, true, false}, {});  // a row alone, in several groups of tiles
        exercise({cell, 3, {{4, 2}}, 0, 3, 2, true, false}, {2});
        exercise({cell, 3, {{4, 2}}, 5, 0, 2, true, false}, {2});
        const int64_t gates = CELLS[cell].gates;
        exercise({cell, 24, {{40, 1}, {40, 2}}, 120 / gates, 6, 0, true, false}, {3});  // worth threads, several blocks
        exercise({cell, 24, {{65, 1}, {20, 9}}, 72 / gates, 16, 0, true, true}, {3});   // the same by rows
        exercise({cell, 24, {{40, 1}, {40, 2}}, 120 / gates, 6, 0, true, false, STREAMDRNN_INT8}, {3});
    }
    exercise({STREAMDRNN_LSTM, 200, {{200, 2}}, 3, 1, 0, true, false}, {});  // weights of megabytes
    for (const int64_t K : {1, 5, 33})
        for (const int64_t M : {1, 4, 17, 40})
            for (const int64_t N : {0, 1, 7, 260}) exercise_linear(N, K, M, 2);
    exercise_linear(1000, 64, 65, 3);
}

static void count_steps() {
    for (const auto &[B, held] : {std::pair{1, STREAMDRNN_FLOAT32}, {10, STREAMDRNN_FLOAT32}, {2, STREAMDRNN_INT8}})
        for (int cell = 0; cell < CELL_COUNT; cell++) {
            const Sizes s{cell, 3, {{9, 3}, {5, 5}}, 1, B, 3, true, false, held};
            doing = s.text();
            const Weights weights(s);
            State state(s);
            const Floats x = Floats::random(B * s.I, 1);
            Floats y(B * s.top());
            const long at_first = taken;
            streamdrnn_stack *const stack = weights.stack(s, 1, B, false);
            require(taken > at_first, "the count sees nothing: a stack takes memory");
            const streamdrnn_live live{stack, state.view(s)};
            const long before = taken;
            for (int i = 0; i < 1000; i++) {
                require(streamdrnn_step(&live, x.get(), y.get()) == STREAMDRNN_OK, "step");
                if (i % 10) continue;
                require(streamdrnn_run(&live, 1, x.get(), nullptr, y.get(), 1) == STREAMDRNN_OK, "run");
                require(streamdrnn_steps(&live, 3, x.get(), y.get()) == STREAMDRNN_OK, "steps");
            }
            require(taken == before, "single steps took memory");
            require(y.finite(), "not finite");
            streamdrnn_stack_free(stack);
        }
}

int main(int count, char **arguments) {
    const std::string mode = count > 1 ? arguments[1] : "", only = count > 2 ? arguments[2] : "";
    bool found = false;
    for (const char *level : {"avx512", "avx2", "portable"}) {
        if ((!only.empty() && only != level) || !streamdrnn_set_level(level)) continue;
        found = true;
        if (mode == "levels") std::printf("%s\n", level);
        if (mode == "run") run();
        if (mode == "steps") count_steps();
        if (mode == "threads")
            for (int cell = 0; cell < CELL_COUNT; cell++) {
                exercise({cell, 24, {{40, 1}, {40, 2}, {40, 4}}, 300, 6, 0, true, false}, {4});
                exercise({cell, 24, {{20, 1}, {20, 9}, {20, 2}}, 100, 70, 0, true, true}, {4});
                exercise_linear(2000, 70, 65, 4);
            }
    }
    return found ? 0 : 1;
}
