/* The native CPU kernels, as plain C: a stack of dilated recurrent layers forward and backward, and a linear map.
 *
 * All arrays are float32, contiguous and the caller's; shapes are as in the Python interface. Functions that return an
 * int, except streamdrnn_set_level, return one of the codes of streamdrnn.h; unless it is STREAMDRNN_OK, they have written
 * nothing. The level of instructions is the library's only state. Threads may use different stacks at once; on one
 * stack streamdrnn_forward, streamdrnn_run and streamdrnn_step are for one thread at a time, as they share its scratch.
 */
#ifndef STREAMDRNN_CPU_H
#define STREAMDRNN_CPU_H
#include "streamdrnn.h"

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

enum { STREAMDRNN_RNN = 0, STREAMDRNN_GRU = 1, STREAMDRNN_LSTM = 2 };

/* One layer's weights in torch's layout: (G H, I), (G H, H), (G H) or NULL. */
typedef struct {
    int64_t input_size, hidden_size, dilation;
    const float *w_ih, *w_hh, *b_ih, *b_hh;
} streamdrnn_layer;

/* Where the gradients of one layer's weights go; biases may be NULL. */
typedef struct {
    float *w_ih, *w_hh, *b_ih, *b_hh;
} streamdrnn_layer_gradients;

/* The state of B streams: per layer rings (d, B, H), c for an LSTM only; the fusion's ring (d0, B, H), or NULL;
 * the steps that each stream has made. */
typedef struct {
    int64_t batch_size;
    float **h, **c;
    float *fusion;
    int64_t *cursor;
} streamdrnn_state;

typedef struct streamdrnn_stack streamdrnn_stack;

/* A network and the streams that it runs on, bound once. */
typedef struct {
    const streamdrnn_stack *stack;
    streamdrnn_state state;
} streamdrnn_live;

/* The best instructions of this processor are taken by default: "avx512", "avx2" or "portable". */
const char *streamdrnn_level(void);
/* Take others, for tests; 0 if this processor or build lacks them. Stacks that exist keep theirs. */
int streamdrnn_set_level(const char *name);

/* A copy of the weights, laid out for chunks of `steps` steps of `batch_size` streams; it serves other chunks too, but
 * slower. `gradients`: whether streamdrnn_backward will be called. The fusion, of `taps` taps, has a weight
 * (H, H, taps) and a bias or NULL; taps is 0 where there is none. NULL when there is no memory.
 *
 * `weights` says how those of the layers are held, see streamdrnn.h; the fusion's, and all biases, are float32. Only with
 * STREAMDRNN_FLOAT32 there are gradients. With STREAMDRNN_INT8 no layer may have more than STREAMDRNN_INT8_INPUTS inputs
 * or units, x has to be finite, and inputs are bytes like the weights: of the x and of the h that a layer reads for a
 * stream's step, each is rounded to the nearest of 255 multiples of its largest magnitude / 127. */
enum { STREAMDRNN_INT8_INPUTS = 133144 }; /* 127^2 times as many is below 2^31 */
streamdrnn_stack *streamdrnn_stack_new(int cell, int64_t layers, const streamdrnn_layer *layer, int64_t taps,
                                       const float *fusion_weight, const float *fusion_bias, int64_t steps,
                                       int64_t batch_size, int gradients, int weights);
void streamdrnn_stack_free(streamdrnn_stack *stack);

/* How many floats streamdrnn_forward saves for the backward pass of a chunk of T steps of B streams: T P S C, with
 *   S  the sum of the layers' hidden sizes H;
 *   C  2 for an LSTM, which saves h and c, else 1;
 *   P  B for a stack that computes by units; B rounded up to a multiple of W for one that computes by rows;
 *   W  the floats of a vector of the stack's level of instructions: 16 (avx512), 8 (avx2) or 4 (portable).
 * It is linear in T, and 0 for T = 0 or B = 0. A stack made for `steps` >= 8 and `batch_size` >= 8 computes by rows if
 *   sum over layers of H P(batch_size) / batch_size  <  sum over layers of (H rounded up to a multiple of W),
 * the left side added up in double from the first layer on; every other stack, and each with narrower weights, computes by units. A bound that does not
 * depend on the level, nor otherwise than linearly on T, for the chunk that a stack was made for: P = B for B < 8, else
 * B rounded up to a multiple of 16. `saved` may be larger than needed: the rest is not touched. */
int64_t streamdrnn_saved_size(const streamdrnn_stack *stack, int64_t steps, int64_t batch_size);

/* x (T, B, I) -> y (T, B, H), without the fusion. before: the state that the chunk begins with, or NULL for streams at
 * their first step. after: the state after the chunk; all of it is written. lengths: (B), each stream's number of
 * steps, 0 to T, or NULL for T. saved: see streamdrnn_saved_size; NULL if there will be no backward pass. */
int streamdrnn_forward(const streamdrnn_stack *stack, const streamdrnn_state *before, const streamdrnn_state *after,
                       int64_t steps, const float *x, const int64_t *lengths, float *y, float *saved, int threads);

/* The same for live streams, with the fusion: the state is advanced in place. The inputs of all steps that are made are
 * first checked for NaN and infinity. */
int streamdrnn_run(const streamdrnn_live *live, int64_t steps, const float *x, const int64_t *lengths, float *y,
                   int threads);

/* One step of all of them, x (B, I) -> y (B, H), on this thread and without taking memory. */
int streamdrnn_step(const streamdrnn_live *live, const float *x, float *y);
/* So many of them with the same x, to measure one. */
int streamdrnn_steps(const streamdrnn_live *live, int64_t count, const float *x, float *y);

/* Gradients of a chunk, without the fusion. before: the state that it began with; its rings are NULL for streams at
 * their first step. after: the gradients of the rings after the chunk, which become those of the rings before it; its
 * cursor and fusion are not read. dx may be NULL. */
int streamdrnn_backward(const streamdrnn_stack *stack, const streamdrnn_state *before, int64_t steps, const float *x,
                        const int64_t *lengths, const float *saved, const float *dy, const streamdrnn_state *after,
                        float *dx, const streamdrnn_layer_gradients *gradients, int threads);

/* y (N, M) = x (N, K) w^T + b with w (M, K), every row by itself and always in the same order. b may be NULL. */
int streamdrnn_linear(int64_t rows, int64_t inputs, int64_t outputs, const float *x, const float *w, const float *b,
                      float *y, int threads);
/* dx (N, K), dw (M, K) and db (M) from dy (N, M); each of the three may be NULL. */
int streamdrnn_linear_backward(int64_t rows, int64_t inputs, int64_t outputs, const float *x, const float *w,
                               const float *dy, float *dx, float *dw, float *db, int threads);

/* ---- live streams of a whole model, see streamdrnn.h, for a caller with memory and threads of its own */

/* As streamdrnn_streams_new. memory: (batch_size, state_size) bytes of zeros at the beginning of a cache line, which the streams
 * use as long as they live. Up to `workers` threads will share the work of a push. */
int streamdrnn_streams_in(const streamdrnn_model *model, int64_t batch_size, void *memory, int workers,
                          streamdrnn_streams **streams);

/* As streamdrnn_push, for `count` of the streams, each at most once: those of `index`, or NULL for all. */
int streamdrnn_push_some(streamdrnn_streams *streams, int64_t count, const int64_t *index, int64_t n, const float *x,
                         const int64_t *lengths, float *y, int64_t *steps, int threads);

/* Where in a stream's state, in bytes, are: cursor, filled, frames, pooled, tail, history and fusion; then the ring of h of each
 * layer, then those of c. offsets: (7 + 2 layers). The cursor and the other counts are int64, `pooled` is double. */
void streamdrnn_state_layout(const streamdrnn_model *model, int64_t *offsets);

/* Multiply-adds per second that one thread reaches in registers, measured for about `seconds`. */
double streamdrnn_multiply_adds_per_second(double seconds);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
