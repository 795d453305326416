/* streamdrnn: live streams of a trained model, from plain C.
 *
 * A model is a file that the Python package wrote (`model.safetensors`): a front-end or none, a dilated recurrent network,
 * and a head or none. Streams are sequences that go on for ever, in memory that does not grow: push samples (or steps)
 * in chunks of any size, and get one output per step. How a sequence is cut into chunks, what other streams are beside
 * it and on how many threads they run never changes a bit of a result.
 *
 * A model never changes after it is made: any number of threads and of streams may use it at once. One set of streams is
 * for one thread at a time. Functions return a code; unless it is STREAMDRNN_OK, they have changed nothing.
 *
 * Arrays are the caller's, contiguous, the last index the fastest.
 */
#ifndef STREAMDRNN_H
#define STREAMDRNN_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#if defined(__GNUC__) && !defined(__EMSCRIPTEN__)
#pragma GCC visibility push(default)
#endif

enum {
    STREAMDRNN_OK = 0,
    STREAMDRNN_NOT_FINITE = 1, /* an input that is to be heard is NaN or infinite */
    STREAMDRNN_NO_MEMORY = 2,
    STREAMDRNN_BAD_MODEL = 3,    /* the file is damaged, or of a kind that this library does not know */
    STREAMDRNN_BAD_ARGUMENT = 4, /* a number is out of its range */
    STREAMDRNN_BAD_STATE = 5     /* a snapshot is damaged, or of another model */
};

/* How a model's weights are held. Narrower ones are rounded once, when the model is loaded: bfloat16 to the nearest; int8
 * to multiples of the largest magnitude in their row of the matrix / 127. Where int8 weights are multiplied, the inputs
 * are rounded in the same way at each step. Sums are float32, or exact. */
enum { STREAMDRNN_FLOAT32 = 0, STREAMDRNN_BFLOAT16 = 1, STREAMDRNN_INT8 = 2 };

enum { STREAMDRNN_NO_HEAD = 0, STREAMDRNN_CLASSIFIER = 1, STREAMDRNN_TAGGER = 2, STREAMDRNN_EMBEDDER = 3 };

typedef struct streamdrnn_model streamdrnn_model;
typedef struct streamdrnn_streams streamdrnn_streams;

/* The sizes of a model. */
typedef struct {
    int32_t head;        /* one of the above */
    int32_t sample_rate; /* samples per second of what it hears; 0 without a front-end */
    int64_t input_size;  /* I: numbers per step; 1, a sample, with a front-end */
    int64_t hop_length;  /* samples from one step to the next; 1 without a front-end */
    int64_t window;      /* samples that the first step waits for; 1 without a front-end */
    int64_t hidden_size; /* H: the outputs of the network */
    int64_t output_size; /* M: numbers of an output */
    int64_t state_size;  /* bytes of a stream's snapshot */
} streamdrnn_info;

/* What a code means, in English; for ever valid. */
const char *streamdrnn_message(int code);

/* Make a model from the bytes of its file, which are not needed afterwards.
 *   weights  STREAMDRNN_FLOAT32, STREAMDRNN_BFLOAT16 or STREAMDRNN_INT8
 *   level    the instructions to compute with: "avx512", "avx2", "portable", or NULL for the best that the processor has
 *   why      where a line goes that says what is wrong with the file, `room` bytes at most; or NULL */
int streamdrnn_model_load(const void *file, size_t size, int weights, const char *level, streamdrnn_model **model,
                          char *why, size_t room);
void streamdrnn_model_free(streamdrnn_model *model); /* its streams have to be freed before; NULL is none */
void streamdrnn_model_info(const streamdrnn_model *model, streamdrnn_info *info);
/* The instructions that it computes with. */
const char *streamdrnn_model_level(const streamdrnn_model *model);

/* `batch_size` streams of a model, at their beginning. All memory that they will ever need is taken here. */
int streamdrnn_streams_new(const streamdrnn_model *model, int64_t batch_size, streamdrnn_streams **streams);
void streamdrnn_streams_free(streamdrnn_streams *streams); /* NULL is none */

/* The most steps that a stream makes in a chunk of n; without a front-end that is n. */
int64_t streamdrnn_most_steps(const streamdrnn_streams *streams, int64_t n);

/* The next chunk of all streams: real-time safe, it takes no memory, no lock, and calls nothing of the system.
 *   n        samples, or without a front-end steps, of the chunk; 0 or more
 *   x        (n, batch_size) samples, or (n, batch_size, I)
 *   lengths  (batch_size): how many of the n are a stream's own, from the beginning on, 0 to n; or NULL for n.
 *            The others may hold anything.
 *   y        (steps, batch_size, M), with room for streamdrnn_most_steps. Where a stream makes fewer steps than another one
 *            it is 0 from a tagger and from a network without a head, else the judgement of the steps so far.
 *            NULL for no outputs: the streams go on all the same, at less cost.
 *   steps    where the number of steps in y goes, or NULL: n without a front-end, else those of the stream that makes
 *            most of them */
int streamdrnn_push(streamdrnn_streams *streams, int64_t n, const float *x, const int64_t *lengths, float *y,
                    int64_t *steps);

/* The output (M) of a stream that its steps so far lead to: of a classifier or an embedder its judgement; else 0. */
int streamdrnn_output(const streamdrnn_streams *streams, int64_t stream, float *y);

/* What a classifier of means, or an embedder, knows of a stream: the sum (H) of the network's outputs, and the number of steps
 * that it is of. The difference of two sums is the sum of the steps between. sum or steps may be NULL. */
int streamdrnn_sum(const streamdrnn_streams *streams, int64_t stream, double *sum, int64_t *steps);
/* The output (M) of a classifier or an embedder for a mean (H) of the network's outputs, whose numbers are not checked. */
int streamdrnn_read_out(const streamdrnn_streams *streams, const float *mean, float *y);

/* Put a stream back at its beginning. */
int streamdrnn_reset(streamdrnn_streams *streams, int64_t stream);
/* A copy of a stream's state, `state_size` bytes; for a process of this machine, or one of the same byte order. */
int streamdrnn_snapshot(const streamdrnn_streams *streams, int64_t stream, void *state);
/* Go on from a snapshot of any stream of this model. It may come from anywhere: it is checked. */
int streamdrnn_restore(streamdrnn_streams *streams, int64_t stream, const void *state);

#if defined(__GNUC__) && !defined(__EMSCRIPTEN__)
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
