/* Streams of models, in plain C and in real time: float32 from the standard input, the outputs to the standard output.
 *
 *   live MODE CHUNK BATCH LEVEL MODEL [LEVEL MODEL]...
 *
 * All models hear the same (N, BATCH) samples or (T, BATCH, I) steps, CHUNK of them in a push, and take turns. Then the
 * outputs (steps, BATCH, M) of each are written. By MODE
 *   strict    who takes or frees memory meanwhile is stopped, and who calls the system is killed
 *   free      they may: for emulators, which are programs of their own
 *   memory, system    strict, and the program does itself what is forbidden: it has to be stopped
 */
#define _GNU_SOURCE
#include "streamdrnn.h"

#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- memory: as much as there is of it, and none in real time */

static char arena[256 << 20];
static size_t taken;
static int in_real_time;

static void stop(const char *why) {
    if (write(2, why, strlen(why)) < 0) abort();
    syscall(SYS_exit, 3);
}

static void *take(size_t alignment, size_t size) {
    size_t begin = (taken + alignment - 1) / alignment * alignment;
    if (in_real_time) stop("took memory\n");
    if (size > sizeof arena - begin) return NULL;
    taken = begin + size;
    return arena + begin;
}

void *malloc(size_t size) { return take(16, size); }
void *calloc(size_t count, size_t size) { return take(16, count * size); }
void *aligned_alloc(size_t alignment, size_t size) { return take(alignment, size); }
void *realloc(void *old, size_t size) {
    void *p = take(16, size);
    return old && p ? memmove(p, old, size) : p;
}
void free(void *p) {
    if (p && in_real_time) stop("freed memory\n");
}

/* ---- the streams */

enum { MOST_MODELS = 16 };

struct live {
    streamdrnn_model *model;
    streamdrnn_streams *streams;
    streamdrnn_info info;
    float *y;
    int64_t steps;
};

static char *read_all(FILE *file, size_t *size) {
    char *content = NULL;
    size_t room = 0, got;
    *size = 0;
    do {
        if (*size == room) content = realloc(content, room = 2 * room + 65536);
        got = fread(content + *size, 1, room - *size, file);
        *size += got;
    } while (got);
    return content;
}

static void require(int code, const char *doing) {
    if (code == STREAMDRNN_OK) return;
    fprintf(stderr, "%s: %s\n", doing, streamdrnn_message(code));
    exit(1);
}

static void load(struct live *live, const char *level, const char *path, int64_t batch_size) {
    char why[200];
    size_t size;
    FILE *file = fopen(path, "rb");
    char *content = file ? read_all(file, &size) : NULL;
    if (!content) exit(1);
    require(streamdrnn_model_load(content, size, STREAMDRNN_FLOAT32, level, &live->model, why, sizeof why), why);
    memset(content, 0, size); /* what was loaded does not need it */
    if (strcmp(streamdrnn_model_level(live->model), level)) exit(1);
    streamdrnn_model_info(live->model, &live->info);
    require(streamdrnn_streams_new(live->model, batch_size, &live->streams), "streams");
}

int main(int argc, char **argv) {
    static struct live live[MOST_MODELS];
    const char *mode = argv[1];
    int64_t chunk = atoll(argv[2]), batch_size = atoll(argv[3]), n, at, width;
    int models = (argc - 4) / 2, i;
    size_t bytes;
    float *x = (float *)read_all(stdin, &bytes);
    for (i = 0; i < models; i++) load(&live[i], argv[4 + 2 * i], argv[5 + 2 * i], batch_size);
    width = batch_size * live[0].info.input_size;
    n = (int64_t)(bytes / sizeof(float)) / width;
    for (i = 0; i < models; i++)
        live[i].y = malloc((size_t)(n * batch_size * live[i].info.output_size) * sizeof(float));

    if (strcmp(mode, "free")) {
        in_real_time = 1;
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)) stop("the system cannot forbid its calls\n");
    }
    if (!strcmp(mode, "memory")) memset(malloc(8), 0, 8);
    if (!strcmp(mode, "system")) syscall(SYS_getpid);
    for (at = 0; at < n; at += chunk) {
        int64_t size = n - at < chunk ? n - at : chunk, made;
        for (i = 0; i < models; i++) {
            int64_t row = batch_size * live[i].info.output_size;
            if (streamdrnn_push(live[i].streams, size, x + at * width, NULL, live[i].y + live[i].steps * row, &made))
                stop("a push\n");
            live[i].steps += made;
        }
    }
    for (i = 0; i < models; i++) {
        const char *from = (const char *)live[i].y;
        int64_t left = live[i].steps * batch_size * live[i].info.output_size * (int64_t)sizeof(float);
        while (left > 0) {
            ssize_t wrote = write(1, from, (size_t)left);
            if (wrote <= 0) stop("cannot write\n");
            from += wrote, left -= wrote;
        }
    }
    syscall(SYS_exit, 0);
    return 0;
}
