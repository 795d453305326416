/* Runs the model of model.c, a tenth of a second (or a step) at a time as a live program would, and prints one output a line.
 *
 *   example recording.wav      16 bit or float32 samples of one channel, at the model's rate
 *   example < numbers.f32      raw float32: samples, or for a model without a front-end steps (T, I)
 */
#include "model.h"
#include "streamdrnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void stop(const char *why) {
    fprintf(stderr, "%s\n", why);
    exit(1);
}

static void require(int code, const char *why) {
    if (code != STREAMDRNN_OK) stop(*why ? why : streamdrnn_message(code));
}

static unsigned long number(const unsigned char *bytes, int count) {
    unsigned long value = 0;
    while (count--) value = value << 8 | bytes[count];
    return value;
}

/* The bytes of a sample of a WAV file, 2 or 4; the file is left where its samples begin, and *size is how many bytes they have. */
static int open_wav(FILE *file, int sample_rate, unsigned long *size) {
    unsigned char head[12], format[40];
    int bytes = 0;
    if (fread(head, 1, 12, file) < 12 || memcmp(head, "RIFF", 4) || memcmp(head + 8, "WAVE", 4)) stop("no WAV file");
    while (fread(head, 1, 8, file) == 8) {
        *size = number(head + 4, 4);
        if (!memcmp(head, "data", 4) && bytes) return bytes;
        if (!memcmp(head, "fmt ", 4) && *size >= 16 && *size <= sizeof format) {
            if (fread(format, 1, *size, file) < *size) break;
            bytes = (int)number(format + 14, 2) / 8;
            unsigned long kind =
                number(format, 2) == 0xfffe && *size == 40 ? number(format + 24, 2) : number(format, 2);
            if (!(kind == 1 && bytes == 2) && !(kind == 3 && bytes == 4)) stop("expected 16 bit or float32 samples");
            if (number(format + 2, 2) != 1) stop("expected one channel");
            if (number(format + 4, 4) != (unsigned long)sample_rate) stop("the model hears another sample rate");
        } else {
            for (unsigned long left = *size + *size % 2; left; left--)
                if (getc(file) == EOF) break;
        }
    }
    stop("the WAV file is damaged");
    return 0;
}

int main(int argc, char **argv) {
    char why[200] = "";
    streamdrnn_model *model;
    require(streamdrnn_model_load(model_file, model_size, STREAMDRNN_FLOAT32, NULL, &model, why, sizeof why), why);
    streamdrnn_info info;
    streamdrnn_model_info(model, &info);
    streamdrnn_streams *streams;
    require(streamdrnn_streams_new(model, 1, &streams), "");
    fprintf(stderr, "instructions: %s\n", streamdrnn_model_level(model));

    FILE *file = argc > 1 ? fopen(argv[1], "rb") : stdin;
    if (!file) stop("there is no such file");
    unsigned long left = 0;
    if (argc > 1 && !info.sample_rate) stop("a model without a front-end hears no WAV file");
    const int bytes = argc > 1 ? open_wav(file, info.sample_rate, &left) : 4;
    const size_t most = info.sample_rate >= 10 ? (size_t)info.sample_rate / 10 : 1, I = (size_t)info.input_size;
    unsigned char *raw = malloc(most * I * 4);
    float *x = malloc(most * I * sizeof *x);
    float *y = malloc((size_t)(streamdrnn_most_steps(streams, (int64_t)most) * info.output_size) * sizeof *y);
    if (!raw || !x || !y) stop("not enough memory");

    for (;;) {
        size_t count = most;
        if (argc > 1 && left / (unsigned)bytes < most) count = left / (unsigned)bytes;
        count = fread(raw, (size_t)bytes * I, count, file);
        left -= argc > 1 ? count * (unsigned)bytes : 0;
        if (!count) break;
        if (bytes == 4) memcpy(x, raw, count * I * sizeof *x);
        for (size_t i = 0; bytes == 2 && i < count; i++) x[i] = (float)(short)number(raw + 2 * i, 2) / 32768;
        int64_t steps;
        require(streamdrnn_push(streams, (int64_t)count, x, NULL, y, &steps), "");
        for (int64_t i = 0; i < steps * info.output_size; i++)
            printf("%.9g%c", (double)y[i], (i + 1) % info.output_size ? ' ' : '\n');
    }
    streamdrnn_streams_free(streams);
    streamdrnn_model_free(model);
    return 0;
}
