/* Prints the outputs of a model, one per line, for raw float32 from the standard input: samples, or steps without a front-end.
 *
 *   cc stream.c -lstreamdrnn -lm -o stream && ./stream model.safetensors < samples.f32
 */
#include <stdio.h>
#include <stdlib.h>
#include <streamdrnn.h>

enum { CHUNK = 160 }; /* of any size: it changes no bit of the outputs */

int main(int argc, char **argv) {
    char why[200] = "no such file, or not enough memory";
    streamdrnn_model *model;
    streamdrnn_streams *streams;
    streamdrnn_info info;

    FILE *file = fopen(argc > 1 ? argv[1] : "model.safetensors", "rb");
    long size = file && !fseek(file, 0, SEEK_END) ? ftell(file) : 0;
    void *content = malloc((size_t)size + 1);
    if (file) rewind(file);
    if (!file || !content || fread(content, 1, (size_t)size, file) < (size_t)size ||
        streamdrnn_model_load(content, (size_t)size, STREAMDRNN_FLOAT32, NULL, &model, why, sizeof why)) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    free(content);
    streamdrnn_model_info(model, &info);
    if (streamdrnn_streams_new(model, 1, &streams)) return 1;
    float *x = malloc(CHUNK * (size_t)info.input_size * sizeof *x);
    float *y = malloc((size_t)(streamdrnn_most_steps(streams, CHUNK) * info.output_size) * sizeof *y);

    int64_t n, steps;
    while (x && y && (n = (int64_t)fread(x, (size_t)info.input_size * sizeof *x, CHUNK, stdin)) > 0) {
        int code = streamdrnn_push(streams, n, x, NULL, y, &steps);
        if (code != STREAMDRNN_OK) return fprintf(stderr, "%s\n", streamdrnn_message(code)), 1;
        for (int64_t i = 0; i < steps * info.output_size; i++)
            printf("%.9g%c", (double)y[i], (i + 1) % info.output_size ? ' ' : '\n');
    }
    return 0;
}
