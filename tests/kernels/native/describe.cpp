// Loads the model files that are named, and prints what the loader made of each, one line a fact: `name value ...`;
// or `error CODE WHY`. A line `end` ends a file.
#include "loader.h"

#include <cstdio>
#include <vector>

static void print(const char *name, const float *values, int64_t count) {
    if (!values) return;
    std::printf("%s", name);
    for (int64_t i = 0; i < count; i++) std::printf(" %.17g", static_cast<double>(values[i]));
    std::printf("\n");
}

static void describe(const streamdrnn::Description &d) {
    const auto integer = [](const char *name, int64_t value) {
        std::printf("%s %lld\n", name, static_cast<long long>(value));
    };
    const streamdrnn::FrontEndDescription &f = d.frontend;
    integer("frontend", static_cast<int64_t>(f.kind)), integer("features", streamdrnn::features_of(f));
    integer("sample_rate", f.sample_rate), integer("window", f.window), integer("win_length", f.win_length);
    integer("hop_length", f.hop_length), integer("n_mels", f.n_mels), integer("n_mfcc", f.n_mfcc);
    integer("deltas", f.deltas);
    std::printf("fmin %.17g\nfmax %.17g\n", f.fmin, f.fmax);
    integer("cell", d.cell), integer("layers", d.layers), integer("taps", d.taps);
    integer("head", static_cast<int64_t>(d.head)), integer("pools_mean", d.pools_mean), integer("outputs", d.outputs);
    const int64_t gates = d.cell == STREAMDRNN_RNN ? 1 : d.cell == STREAMDRNN_GRU ? 3 : 4;
    for (int64_t l = 0; l < d.layers; l++) {
        const streamdrnn_layer &layer = d.layer[l];
        const int64_t I = layer.input_size, H = layer.hidden_size;
        std::printf("layer %lld %lld %lld\n", static_cast<long long>(I), static_cast<long long>(H),
                    static_cast<long long>(layer.dilation));
        print("w_ih", layer.w_ih, gates * H * I), print("w_hh", layer.w_hh, gates * H * H);
        print("b_ih", layer.b_ih, gates * H), print("b_hh", layer.b_hh, gates * H);
    }
    const int64_t I = d.layer[0].input_size, H = d.layer[d.layers - 1].hidden_size;
    print("fusion_weight", d.fusion_weight, H * H * d.taps), print("fusion_bias", d.fusion_bias, H);
    print("feature_mean", d.feature_mean, I), print("feature_std", d.feature_std, I);
    print("head_weight", d.head_weight, d.outputs * H), print("head_bias", d.head_bias, d.outputs);
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        std::FILE *const file = std::fopen(argv[i], "rb");
        if (!file) return 1;
        std::fseek(file, 0, SEEK_END);
        std::vector<char> content(static_cast<size_t>(std::ftell(file)));
        std::rewind(file);
        if (std::fread(content.data(), 1, content.size(), file) != content.size()) return 1;
        std::fclose(file);
        char why[256];
        streamdrnn::LoadedModel model;
        const int code = model.load(content.data(), content.size(), why, sizeof why);
        content = {};  // what was loaded does not need it
        if (code == STREAMDRNN_OK)
            describe(model.description());
        else
            std::printf("error %d %s\n", code, why);
        std::printf("end\n");
    }
}
