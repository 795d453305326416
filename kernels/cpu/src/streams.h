// The live streams of a model: their states, and a push of samples or steps through front-end, stack, fusion and head.
#pragma once
#include "forward.h"
#include "model.h"

namespace streamdrnn::STREAMDRNN_LEVEL {

constexpr int64_t MOST_STEPS = int64_t{1} << 62;  // of a stream's life, far from overflowing

// No sum of products of such features and of weights overflows. A NaN that came of it would stay in a stream for ever.
constexpr float MOST_FEATURE = 1e18f;

inline float within(float x, float most) { return x > most ? most : x < -most ? -most : x; }

inline bool finite(const float *x, int64_t count) {
    V worst = all(0.0f);  // 0 x is 0, or NaN
    for (; count > W; x += W, count -= W) worst = fma(load(x), all(0.0f), worst);
    if (count > 0) worst = fma(load(x, static_cast<int>(count)), all(0.0f), worst);
    return sum(worst) == 0;
}

// Whether the first lengths[b] of n rows of `width` are finite in each of B streams; x is (n, B, width).
inline bool finite(const float *x, int64_t n, int64_t B, int64_t width, const int64_t *lengths) {
    if (finite(x, n * B * width)) return true;
    if (!lengths) return false;
    for (int64_t t = 0; t < n; t++)
        for (int64_t b = 0; b < B; b++)
            if (t < lengths[b] && !finite(x + (t * B + b) * width, width)) return false;
    return true;
}

struct Streams : streamdrnn_streams {
    // Some rows are computed together: enough to share a pass over the weights, which may come from the third cache, few
    // enough to stay in the second. Measured with five layers of 192 where it has 1 MB (EPYC) and 2 MB (Xeon).
    static constexpr int64_t STREAMS_AT_ONCE = 16, STREAMS_IN_2_MB = 64, STEPS_OF_MANY = 5, LEAST_ROWS_AT_ONCE = 64;

    static int64_t most_at_once() { return second_cache() < 2 << 20 ? STREAMS_AT_ONCE : STREAMS_IN_2_MB; }

    // What one thread needs while it computes some steps of some streams.
    struct Workspace {
        float *features, *y, *means;  // (steps, streams, I or H)
        float *step;
        float *window;  // of the frames that are computed together
        float *forward, *fusion;
        const float **in;
        float **out;
        int64_t *cursor, *record, *made, *lengths;  // per stream: `made`, the steps in the whole chunk
        FrameScratch frame;
    };

    const Model &model;
    const int64_t B;
    const int workers;
    const int64_t streams_at_once, rows_at_once;
    int64_t forward_floats = 0;
    Scratch memory;
    float *records = nullptr;  // (B, record.floats)
    Slots<float *> h, c;       // per layer: the ring of the first stream
    Slots<Workspace> workspace;
    bool complete;

    static void *operator new(size_t bytes) noexcept { return std::malloc(bytes); }
    static void operator delete(void *streams) { std::free(streams); }

    Streams(const Model &model, int64_t B, float *given, int workers)
        : model(model), B(B), workers(workers), streams_at_once(largest(1, smallest(most_at_once(), B))),
          rows_at_once(largest(LEAST_ROWS_AT_ONCE, STEPS_OF_MANY * streams_at_once)) {
        complete = memory.lay_out([&] { take_memory(given); });
        if (!complete) return;
        for (int64_t b = 0; b < B; b++) reset(b);
    }

    void take_memory(float *given) {
        const Stack &stack = model.stack;
        const Record &record = model.record;
        const int64_t rows = rows_at_once, most = streams_at_once, I = model.inputs(), H = stack.top();
        const int64_t layers = stack.layers;
        records = given ? given : memory.take(B * record.floats);
        memory.take(h, layers), memory.take(c, layers), memory.take(workspace, workers);
        if (h.items)
            for (int64_t l = 0; l < layers; l++) h[l] = records + record.h[l], c[l] = records + record.c[l];
        for (int64_t together = 1; together <= most; together++)
            forward_floats = largest(forward_floats, Forward::floats(stack, rows / together, together));
        for (int i = 0; i < workers; i++) {
            Workspace w{};
            w.features = memory.take(rows * I), w.y = memory.take(rows * H), w.means = memory.take(rows * H);
            w.step = memory.take(step_scratch(stack)),
            w.window = memory.take(model.window() * model.frontend.together());
            w.forward = memory.take(forward_floats), w.fusion = memory.take(fusion_scratch(stack, most));
            w.in = memory.take_some<const float *>(rows), w.out = memory.take_some<float *>(rows);
            w.cursor = memory.take_some<int64_t>(most);
            w.record = memory.take_some<int64_t>(most);
            w.made = memory.take_some<int64_t>(most);
            w.lengths = memory.take_some<int64_t>(most);
            w.frame = model.frontend.take_scratch(memory);
            if (workspace.items) workspace[i] = w;
        }
    }

    // ---- one stream's state

    float *record_of(int64_t b) const { return records + b * model.record.floats; }
    template <class T> T &part(int64_t b, int64_t place) const { return *reinterpret_cast<T *>(record_of(b) + place); }
    int64_t &cursor(int64_t b) const { return part<int64_t>(b, model.record.cursor); }
    int64_t &filled(int64_t b) const { return part<int64_t>(b, model.record.filled); }
    int64_t &frames(int64_t b) const { return part<int64_t>(b, model.record.frames); }
    double *pooled(int64_t b) const { return &part<double>(b, model.record.pooled); }

    void reset(int64_t b) {
        clear(record_of(b), model.record.floats);
        part<uint64_t>(b, model.record.mark) = model.mark;
    }

    int restore(int64_t b, const float *from) {
        const Record &at = model.record;
        uint64_t mark;
        int64_t counts[3];
        std::memcpy(&mark, from + at.mark, sizeof mark);
        std::memcpy(counts, from + at.cursor, sizeof *counts);
        std::memcpy(counts + 1, from + at.filled, sizeof *counts);
        std::memcpy(counts + 2, from + at.frames, sizeof *counts);
        const int64_t most[3] = {MOST_STEPS, largest(0, model.window() - 1), MOST_STEPS};
        if (mark != model.mark) return STREAMDRNN_BAD_STATE;
        for (int i = 0; i < 3; i++)
            if (counts[i] < 0 || counts[i] > most[i]) return STREAMDRNN_BAD_STATE;
        for (int64_t i = 0; model.pools() && i < model.stack.top(); i++) {
            double value;
            std::memcpy(&value, from + at.pooled + 2 * i, sizeof value);
            if (!(value - value == 0)) return STREAMDRNN_BAD_STATE;
        }
        if (!finite(from + at.tail, at.floats - at.tail)) return STREAMDRNN_BAD_STATE;
        std::memcpy(record_of(b), from, static_cast<size_t>(at.floats) * sizeof(float));
        return STREAMDRNN_OK;
    }

    // What the head reads of a stream that has made so many steps: the mean of the network's outputs, or the latest.
    void summary(int64_t b, int64_t made, float *to) const {
        const double *const known = pooled(b), count = static_cast<double>(largest(1, made));
        for (int64_t u = 0; u < model.stack.top(); u++)
            to[u] = static_cast<float>(model.pools_mean ? known[u] / count : known[u]);
    }

    // ---- a push

    // As streamdrnn_push_some has them.
    struct Push {
        Streams &streams;
        int64_t count;
        const int64_t *index;
        int64_t n;
        const float *x;
        const int64_t *lengths;
        float *y;
        int64_t steps, together;  // `together`: the streams that are computed together

        int64_t stream(int64_t i) const { return index ? index[i] : i; }
        int64_t own(int64_t i) const { return lengths ? lengths[i] : n; }
        // The steps that a stream makes.
        int64_t made(int64_t i) const {
            const Model &model = streams.model;
            if (!model.hears()) return own(i);
            const int64_t beyond = streams.filled(stream(i)) + own(i) - model.window();
            return beyond < 0 ? 0 : beyond / model.hop() + 1;
        }
    };

    int push(int64_t count, const int64_t *index, int64_t n, const float *x, const int64_t *lengths, float *y,
             int64_t *steps, int threads) {
        if (!finite(x, n, count, model.width(), lengths)) return STREAMDRNN_NOT_FINITE;
        if (n == 1 && count == 1 && !lengths && model.is_stack()) {
            step_one(index ? *index : 0, x, y);
            if (steps) *steps = 1;
            return STREAMDRNN_OK;
        }
        Push call{*this, count, index, n, x, lengths, y, 0, 1};
        if (!model.hears()) call.steps = n;
        for (int64_t i = 0; model.hears() && i < count; i++) call.steps = largest(call.steps, call.made(i));
        threads =
            useful_threads(threads < workers ? threads : workers, call.steps * count * model.stack.multiply_adds());
        call.together = largest(1, smallest(streams_at_once, ceil_div(count, threads)));
        const Task task = [](void *call, int worker, int64_t part, int64_t, int64_t) {
            Push &p = *static_cast<Push *>(call);
            p.streams.push_part(p, p.streams.workspace[worker], part * p.together);
        };
        run_parts(threads, ceil_div(count, call.together), task, &call);
        if (steps) *steps = call.steps;
        return STREAMDRNN_OK;
    }

    // A step of one stream of a stack alone, without what chunks of many streams need.
    void step_one(int64_t b, const float *x, float *y) {
        const int64_t record = b * model.record.floats;
        const Rings rings{1, h.items, c.items, nullptr, &cursor(b), &record};
        const float *const row = step(model.stack, rings, 0, x, workspace[0].step);
        if (y) copy(row, model.stack.top(), y);
        cursor(b)++;
    }

    // The chunk for the streams from `first` on that are computed together.
    void push_part(const Push &call, const Workspace &w, int64_t first) {
        const Stack &stack = model.stack;
        const int64_t count = smallest(call.together, call.count - first), I = model.inputs(), H = stack.top();
        const int64_t M = model.outputs, most_steps = rows_at_once / call.together;
        const bool all_of_them = count == call.count;
        for (int64_t i = 0; i < count; i++) {
            const int64_t b = call.stream(first + i);
            w.cursor[i] = cursor(b), w.record[i] = b * model.record.floats, w.made[i] = call.made(first + i);
        }
        const Rings rings{count, h.items, c.items, records + model.record.fusion, w.cursor, w.record};
        for (int64_t begin = 0; begin < call.steps; begin += most_steps) {
            const int64_t steps = smallest(most_steps, call.steps - begin);
            int64_t longest = 0;
            for (int64_t i = 0; i < count; i++) {
                w.lengths[i] = largest(0, smallest(steps, w.made[i] - begin));
                longest = largest(longest, w.lengths[i]);
            }
            const float *in = w.features;
            if (model.hears()) {
                hear(call, w, first, count, begin);
            } else if (all_of_them) {
                in = call.x + begin * count * I;
            } else {
                for (int64_t t = 0; t < longest; t++)
                    std::memcpy(w.features + t * count * I, call.x + ((begin + t) * call.count + first) * I,
                                static_cast<size_t>(count * I) * sizeof(float));
            }
            float *const to = call.y ? call.y + (begin * call.count + first) * M : nullptr;
            float *const y = to && all_of_them && model.head == HeadKind::NONE ? to : w.y;
            if (longest) {
                if (longest == 1 && count == 1) {
                    copy(step(stack, rings, 0, in, w.step), H, y);
                } else {
                    Forward pass(stack, rings, longest, in, w.lengths, y, nullptr, 1, false, w.forward, forward_floats);
                    pass.take_memory();
                    pass.run();
                }
                if (stack.taps) fuse(stack, rings, longest, w.lengths, y, w.fusion, streams_at_once);
            }
            clear(y + longest * count * H, (steps - longest) * count * H);
            read_out(call, w, first, count, steps, y, to);
            for (int64_t i = 0; i < count; i++) w.cursor[i] += w.lengths[i];
        }
        for (int64_t i = 0; i < count; i++) {
            cursor(call.stream(first + i)) = w.cursor[i];
            if (model.hears()) keep_tail(call, first + i, w.made[i]);
        }
    }

    // The features of w.lengths frames from frame `begin` of the chunk on, standardised. Frames are computed together that
    // are of neighbouring streams, or follow one another.
    void hear(const Push &call, const Workspace &w, int64_t first, int64_t count, int64_t begin) {
        const int64_t I = model.inputs(), most = model.frontend.together();
        Frame frame[LANES];
        int64_t stream[LANES], start[LANES], waiting = 0;
        const auto compute = [&] {
            gather(call, waiting, stream, start, w.window);
            model.frontend.run(waiting, w.window, frame, w.frame);
            for (; waiting > 0; waiting--) {
                float *const to = frame[waiting - 1].features;
                for (int64_t k = 0; k < I; k++)
                    to[k] = within((to[k] - model.mean[k]) / model.deviation[k], MOST_FEATURE);
            }
        };
        for (int64_t from = 0; from < count; from += most) {
            const int64_t end = smallest(count, from + most);
            int64_t longest = 0;
            for (int64_t i = from; i < end; i++) longest = largest(longest, w.lengths[i]);
            for (int64_t f = 0; f < longest; f++)
                for (int64_t i = from; i < end; i++) {
                    if (f >= w.lengths[i]) continue;
                    const int64_t b = call.stream(first + i);
                    frame[waiting] = {frames(b)++, record_of(b) + model.record.history,
                                      w.features + (f * count + i) * I};
                    stream[waiting] = first + i, start[waiting] = (begin + f) * model.hop();
                    if (++waiting == most) compute();
                }
            if (waiting) compute();
        }
    }

    // The samples of some frames as the front-end takes them. A frame's `start` counts from the first sample that waits.
    void gather(const Push &call, int64_t count, const int64_t *stream, const int64_t *start, float *to) const {
        const int64_t window = model.window(), lanes = count > 1 ? LANES : 1;
        int64_t past[LANES], at[LANES];  // samples from the tail; where in x the frame's beginning is, or would be
        bool neighbours = lanes > 1;
        for (int64_t lane = 0; lane < lanes; lane++) {
            const int64_t of = smallest(lane, count - 1);  // lanes without a frame repeat the last one
            const int64_t b = call.stream(stream[of]), waiting = filled(b);
            const float *const tail = record_of(b) + model.record.tail + (window - 1 - waiting) + start[of];
            past[lane] = smallest(window, largest(0, waiting - start[of]));
            at[lane] = (start[of] - waiting) * call.count + stream[of];
            neighbours = neighbours && past[lane] == past[0] && at[lane] == at[0] + lane;
            for (int64_t s = 0; s < past[lane]; s++) to[s * lanes + lane] = tail[s];
        }
        if (neighbours)
            for (int64_t s = past[0]; s < window; s++)
                std::memcpy(to + s * LANES, call.x + at[0] + s * call.count, LANES * sizeof(float));
        else
            for (int64_t lane = 0; lane < lanes; lane++)
                for (int64_t s = past[lane]; s < window; s++) to[s * lanes + lane] = call.x[at[lane] + s * call.count];
    }

    // The samples that have no whole frame yet, at the end of the tail; zeros before them.
    void keep_tail(const Push &call, int64_t i, int64_t made) {
        const int64_t b = call.stream(i), own = call.own(i), waiting = filled(b), size = model.window() - 1;
        const int64_t left = waiting + own - made * model.hop(), fresh = smallest(left, own), old = left - fresh;
        float *const tail = record_of(b) + model.record.tail;
        std::memmove(tail + size - left, tail + size - old, static_cast<size_t>(old) * sizeof(float));
        for (int64_t s = 0; s < fresh; s++) tail[size - fresh + s] = call.x[(own - fresh + s) * call.count + i];
        clear(tail, size - left);
        filled(b) = left;
    }

    // From the network's outputs y (steps, count, H) to the model's, whose rows are call.count apart; NULL for none.
    void read_out(const Push &call, const Workspace &w, int64_t first, int64_t count, int64_t steps, const float *y,
                  float *to) {
        const int64_t H = model.stack.top(), M = model.outputs;
        int64_t rows = 0;
        for (int64_t t = 0; t < steps; t++)
            for (int64_t i = 0; i < count; i++) {
                const float *const row = y + (t * count + i) * H;
                float *const out = to ? to + (t * call.count + i) * M : nullptr;
                const bool made = t < w.lengths[i];
                if (model.pools()) {
                    const int64_t b = call.stream(first + i);
                    if (made) pool(b, row);
                    if (!out) continue;
                    summary(b, w.cursor[i] + smallest(t + 1, w.lengths[i]), w.means + rows * H);
                    w.in[rows] = w.means + rows * H, w.out[rows++] = out;
                } else if (out && model.head == HeadKind::TAGGER && made) {
                    w.in[rows] = row, w.out[rows++] = out;
                } else if (out && out != row) {
                    if (model.head == HeadKind::NONE)
                        std::memcpy(out, row, static_cast<size_t>(M) * sizeof(float));
                    else
                        clear(out, M);
                }
            }
        if (rows) model.read_out(rows, w.in, w.out);
    }

    // Add an output of the network to what is known of a stream.
    void pool(int64_t b, const float *row) {
        double *const known = pooled(b);
        for (int64_t u = 0; u < model.stack.top(); u++) {
            const double value = static_cast<double>(row[u]);
            known[u] = model.pools_mean ? known[u] + value : value;
        }
    }
};

inline Streams &streams_of(streamdrnn_streams *streams) { return *static_cast<Streams *>(streams); }
inline const Streams &streams_of(const streamdrnn_streams *streams) { return *static_cast<const Streams *>(streams); }

}  // namespace streamdrnn::STREAMDRNN_LEVEL
