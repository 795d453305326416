// A live stream in C++, of any model that `streamdrnn export --format torchscript` wrote.
//
//     stream MODEL.pt < INPUT > OUTPUT
//
// INPUT and OUTPUT are raw float32 numbers: for a model with a front-end the samples of one channel, at the rate that
// the model's description names; for another the features of one step after the other. The first CHUNK steps go
// through at once, as what was recorded already would; the rest step by step, as it comes.

#include <torch/script.h>

#include <cstdio>
#include <exception>
#include <iostream>
#include <vector>

namespace {

constexpr int64_t CHUNK = 16;

// The next steps (T, 1, size) of the one stream; fewer than asked for where the input ends.
torch::Tensor read_steps(int64_t steps, int64_t size) {
    std::vector<float> values(steps * size);
    const int64_t complete =
        static_cast<int64_t>(std::fread(values.data(), sizeof(float), values.size(), stdin)) / size;
    return torch::tensor(values).slice(0, 0, complete * size).view({complete, 1, size});
}

void write(const torch::Tensor &y) {
    const torch::Tensor values = y.contiguous();
    std::fwrite(values.data_ptr<float>(), sizeof(float), values.numel(), stdout);
}

void run(const char *path) {
    torch::jit::ExtraFilesMap extra{{"streamdrnn.json", ""}};
    torch::jit::Module model = torch::jit::load(path, torch::kCPU, extra);
    std::cerr << extra["streamdrnn.json"] << '\n';  // what goes in and comes out, for those who read along
    const int64_t size = model.attr("step_size").toInt();

    const torch::InferenceMode inference;
    torch::jit::IValue state = model.run_method("initial_state", 1);

    torch::Tensor x = read_steps(CHUNK, size);
    if (x.size(0) > 0) {
        const auto result = model.run_method("chunk", x, state).toTuple();
        write(result->elements()[0].toTensor());
        state = result->elements()[1];
    }
    while ((x = read_steps(1, size)).size(0) > 0) {
        const auto result = model.run_method("step", x[0], state).toTuple();
        write(result->elements()[0].toTensor());
        state = result->elements()[1];
    }
}

}  // namespace

int main(int argc, char **argv) {
    if (argc != 2) {
        std::cerr << "usage: stream MODEL.pt < INPUT > OUTPUT\n";
        return 2;
    }
    try {
        run(argv[1]);
    } catch (const std::exception &error) {
        std::cerr << "stream: " << error.what() << '\n';
        return 1;
    }
    return 0;
}
