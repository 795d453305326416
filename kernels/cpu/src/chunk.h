// The part that both passes over a chunk share: its sizes, its blocks of time, and which stream makes which steps.
#pragma once
#include "schedule.h"
#include "stack.h"

namespace streamdrnn::STREAMDRNN_LEVEL {

constexpr int MOST_GROUPS = 16;

// The slot, in a ring of d, of step t of a chunk, for a stream with this cursor.
inline int64_t slot_of(int64_t cursor, int64_t t, int64_t d) {
    if ((d & (d - 1)) == 0)
        return static_cast<int64_t>(static_cast<uint64_t>(cursor) + static_cast<uint64_t>(t)) & (d - 1);
    const int64_t slot = (cursor % d + t) % d;
    return slot < 0 ? slot + d : slot;
}

// The rings and clocks of B streams. They lie as in streamdrnn_state, where all streams of a slot are together, or in
// records, where all of a stream is.
struct Rings {
    int64_t B;
    float *const *h, *const *c;
    float *fusion;
    int64_t *cursor;
    const int64_t *record =
        nullptr;  // (B): the floats from the beginning of each ring to a stream's own; NULL if not in records

    // Stream b's row, of H, in a slot of one of the rings.
    template <class T> T *row(T *ring, int64_t slot, int64_t b, int64_t H) const {
        return ring + (record ? record[b] + slot * H : (slot * B + b) * H);
    }
};

inline Rings rings_of(const streamdrnn_state &state) {
    return {state.batch_size, state.h, state.c, state.fusion, state.cursor};
}

struct Chunk {
    const Stack &stack;
    int64_t T, B;
    const float *x;
    const int64_t *lengths;
    int64_t streams_per_bundle;  // W by rows; all by units
    int64_t bundles;             // of streams; a group takes every `groups`-th, one after the other
    int64_t groups;
    int64_t steps_per_block, blocks_per_bundle;

    Chunk(const Stack &stack, int64_t T, int64_t B, const float *x, const int64_t *lengths, bool gradients)
        : stack(stack), T(T), B(B), x(x), lengths(lengths) {
        streams_per_bundle = stack.by_rows ? W : B;
        bundles = ceil_div(B, streams_per_bundle);
        // The gradients of the weights are summed per group: how many there are must not depend on the threads.
        groups = smallest(bundles, MOST_GROUPS);
        if (stack.by_rows) {
            // Forward, a layer's block should be in the first cache when the next layer reads it; backward, where a
            // task does more with more data, in the second.
            const int64_t per_step = stack.widest() * W * (gradients ? 8 : 1);
            steps_per_block = largest(8, smallest(64, (gradients ? 131072 : 10240) / per_step));
        } else {
            steps_per_block = largest(8, smallest(64, 128 / B));
        }
        steps_per_block = smallest(steps_per_block, T);
        blocks_per_bundle = ceil_div(T, steps_per_block);
    }

    int64_t blocks() const { return ceil_div(bundles, groups) * blocks_per_bundle; }
    int64_t length(int64_t b) const { return lengths ? lengths[b] : T; }
    int64_t stage_of(int64_t group, int64_t l) const { return group * stack.layers + l; }
    int64_t h_of(int64_t l) const { return stack.layer[l].H; }
    // How many steps a layer may write before the next layer has read them.
    int64_t steps_in_flight() const { return LEAD * steps_per_block; }
    // Where a layer's saved h begins, (T, B, H) by units and per bundle (T, H, W) by rows; its c follows.
    int64_t saved_start(int64_t bundle, int64_t l) const {
        int64_t start = bundle * saved_per_bundle();
        for (int64_t i = 0; i < l; i++) start += saved_of(i);
        return start;
    }
    int64_t saved_of(int64_t l) const { return T * streams_per_bundle * h_of(l) * (1 + stack.has_c()); }
    int64_t saved_per_bundle() const { return T * streams_per_bundle * stack.units() * (1 + stack.has_c()); }
};

// The bundle and the steps of it that a task computes.
struct Block {
    int64_t bundle, begin, end;
    bool first, last;   // of the bundle, in time
    int64_t in_flight;  // where in a buffer of steps in flight the block begins

    Block(const Chunk &c, int64_t group, int64_t block, bool backward) {
        bundle = group + block / c.blocks_per_bundle * c.groups;
        in_flight = block % LEAD * c.steps_per_block;
        int64_t i = block % c.blocks_per_bundle;
        if (backward) i = c.blocks_per_bundle - 1 - i;
        begin = i * c.steps_per_block;
        end = smallest(c.T, begin + c.steps_per_block);
        first = i == 0, last = i == c.blocks_per_bundle - 1;
    }
};

// By rows: the streams that share vectors, a lane each.
struct Bundle {
    int64_t first, count;  // streams
    int64_t length[W];     // 0 for lanes without a stream
    int64_t shortest;

    Bundle(const Chunk &c, int64_t bundle) : first(bundle * W), count(smallest(W, c.B - bundle * W)), shortest(c.T) {
        for (int64_t lane = 0; lane < W; lane++) {
            length[lane] = lane < count ? c.length(first + lane) : 0;
            if (lane < count) shortest = smallest(shortest, length[lane]);
        }
    }
    // 1 for the lanes that make step t.
    V made(int64_t t) const {
        float mask[W];
        for (int lane = 0; lane < W; lane++) mask[lane] = t < length[lane] ? 1.0f : 0.0f;
        return load(mask);
    }
};

// One step of user data, row b at rows + b stride, to [feature][lane] and back. Lanes without a stream, and those that
// do not make the step, get zeros.
inline void to_lanes(const float *rows, int64_t stride, int64_t features, const Bundle &bundle, int64_t t, float *to) {
    for (int64_t lane = 0; lane < W; lane++) {
        const float *from = rows + lane * stride;
        if (t < bundle.length[lane])
            for (int64_t f = 0; f < features; f++) to[f * W + lane] = from[f];
        else
            for (int64_t f = 0; f < features; f++) to[f * W + lane] = 0.0f;
    }
}

inline void from_lanes(const float *from, int64_t stride, int64_t features, const Bundle &bundle, int64_t t,
                       float *rows) {
    for (int64_t lane = 0; lane < bundle.count; lane++) {
        float *to = rows + lane * stride;
        if (t < bundle.length[lane])
            for (int64_t f = 0; f < features; f++) to[f] = from[f * W + lane];
        else
            clear(to, features);
    }
}

// The slots of a ring, or of zeros, that a chunk touches, to [slot][H][lane] and back. In the lanes' ring, time counts
// from the beginning of the chunk.
inline void ring_to_lanes(const float *ring, const Rings &rings, const Chunk &c, const Layer &layer,
                          const Bundle &bundle, float *to) {
    const int64_t slots = smallest(c.T, layer.d);
    if (!ring) {
        clear(to, slots * layer.H * W);
        return;
    }
    for (int64_t s = 0; s < slots; s++)
        for (int64_t lane = 0; lane < W; lane++) {
            const int64_t b = bundle.first + lane;
            const bool given = lane < bundle.count;
            const float *from = given ? rings.row(ring, slot_of(rings.cursor[b], s, layer.d), b, layer.H) : nullptr;
            for (int64_t u = 0; u < layer.H; u++) to[(s * layer.H + u) * W + lane] = from ? from[u] : 0.0f;
        }
}

inline void ring_from_lanes(const float *from, const Rings &rings, const Chunk &c, const Layer &layer,
                            const Bundle &bundle, float *ring) {
    for (int64_t s = 0; s < smallest(c.T, layer.d); s++)
        for (int64_t lane = 0; lane < bundle.count; lane++) {
            const int64_t b = bundle.first + lane;
            float *to = rings.row(ring, slot_of(rings.cursor[b], s, layer.d), b, layer.H);
            for (int64_t u = 0; u < layer.H; u++) to[u] = from[(s * layer.H + u) * W + lane];
        }
}

}  // namespace streamdrnn::STREAMDRNN_LEVEL
