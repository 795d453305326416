// Model files as anybody may have made them, for libFuzzer: each is refused in one line, or becomes a model whose streams
// run, and go on from a snapshot with the same bits.
#include "streamdrnn.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

static void require(bool fine, const char *what) {
    if (fine) return;
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}

static void run(const streamdrnn_model *model) {
    streamdrnn_info info;
    streamdrnn_model_info(model, &info);
    const int64_t B = 2, n = 2 * info.hop_length + 1, most_floats = 1 << 20;  // larger ones take too long
    if (info.state_size > 4 * most_floats || n * info.input_size > most_floats || 3 * info.output_size > most_floats)
        return;
    streamdrnn_streams *streams;
    require(streamdrnn_streams_new(model, B, &streams) == STREAMDRNN_OK, "no streams");
    std::vector<float> x(static_cast<size_t>(n * B * info.input_size));
    for (size_t i = 0; i < x.size(); i++) x[i] = static_cast<float>(i * 7 % 11) - 5;
    const size_t most_steps = static_cast<size_t>(streamdrnn_most_steps(streams, n));
    std::vector<float> y(most_steps * B * static_cast<size_t>(info.output_size)), again(y);
    const int64_t lengths[B] = {n, n / 2};
    int64_t steps;
    for (int64_t heard = 0; heard < info.window; heard += n)
        require(streamdrnn_push(streams, n, x.data(), lengths, nullptr, &steps) == STREAMDRNN_OK, "no push");
    std::vector<char> state(static_cast<size_t>(info.state_size));
    require(streamdrnn_snapshot(streams, 0, state.data()) == STREAMDRNN_OK, "no snapshot");
    require(streamdrnn_push(streams, n, x.data(), nullptr, y.data(), &steps) == STREAMDRNN_OK, "no push");
    // A state of weights that are not finite may not be finite either, and is refused then.
    if (streamdrnn_restore(streams, 0, state.data()) == STREAMDRNN_OK) {
        const int64_t only_first[B] = {n, 0};
        require(streamdrnn_push(streams, n, x.data(), only_first, again.data(), nullptr) == STREAMDRNN_OK, "no push");
        for (int64_t t = 0; t < steps; t++) {
            const size_t row = static_cast<size_t>(t * B * info.output_size),
                         bytes = sizeof(float) * static_cast<size_t>(info.output_size);
            require(std::memcmp(&y[row], &again[row], bytes) == 0, "other bits after a snapshot");
        }
    }
    streamdrnn_streams_free(streams);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char why[80];
    std::memset(why, 'x', sizeof why);
    streamdrnn_model *model;
    const int code = streamdrnn_model_load(data, size, STREAMDRNN_FLOAT32, nullptr, &model, why, sizeof why);
    if (code == STREAMDRNN_OK) {
        run(model);
        streamdrnn_model_free(model);
        return 0;
    }
    require(code == STREAMDRNN_BAD_MODEL, "another code");
    const size_t length = strnlen(why, sizeof why);
    require(length > 0 && length < sizeof why && !std::strchr(why, '\n'), "the reason is no line");
    return 0;
}

extern "C" size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

// Most changes leave the header's length right, which is in front of it: else hardly any would get past it.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    uint64_t header = 0;
    if (size >= 8) std::memcpy(&header, data, 8);
    if (seed % 8 == 0 || size < 8 || header > size - 8) return LLVMFuzzerMutate(data, size, max_size);
    const std::vector<uint8_t> tensors(data + 8 + header, data + size);
    header = LLVMFuzzerMutate(data + 8, header, max_size - 8 - tensors.size());
    std::memcpy(data, &header, 8);
    if (!tensors.empty()) std::memcpy(data + 8 + header, tensors.data(), tensors.size());
    return 8 + header + tensors.size();
}
