// A live stream in C++, of any model that `streamdrnn export --format torchscript` wrote.
//
//     stream MODEL.pt < INPUT > OUTPUT
//
// INPUT and OUTPUT are raw float32 numbers: for a model with a front-end the samples of one channel, at the rate that
// the model's description names; for another the features of one step after the other. The first CHUNK steps go
// through at once, as what was recorded already would; the rest step by step, as it comes. Each completed step of the
// network is one row of OUTPUT; a last step that is not whole is left out.

#include <torch/script.h>

#include <cstdio>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <utility>
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

// The one stream, and how far it has come.
class Stream {
  public:
    explicit Stream(torch::jit::Module model)
        : model_(std::move(model)), state_(model_.run_method("initial_state", 1)), frames_(frames()) {}

    // Writes the rows that an entry point completes: a front-end needs a whole window for its first one, and the rows
    // of y that are not complete yet come last.
    void push(const char *entry_point, const torch::Tensor &x) {
        const auto result = model_.run_method(entry_point, x, state_).toTuple();
        state_ = result->elements()[1];
        const int64_t before = frames_;
        frames_ = frames();
        const torch::Tensor y = result->elements()[0].toTensor().view({x.numel() / size(), -1});
        write(frames_ < 0 ? y : y.slice(0, 0, frames_ - before));
    }

    int64_t size() const { return model_.attr("step_size").toInt(); }

  private:
    torch::jit::Module model_;
    torch::jit::IValue state_;
    int64_t frames_;

    // How many frames the front-end has completed; -1 for a model without one.
    int64_t frames() const {
        const auto tensors = state_.toGenericDict();
        const auto found = tensors.find("audio.frames");
        return found == tensors.end() ? -1 : found->value().toTensor().item<int64_t>();
    }

    static void write(const torch::Tensor &y) {
        const torch::Tensor values = y.contiguous();
        const auto count = static_cast<size_t>(values.numel());
        if (std::fwrite(values.data_ptr<float>(), sizeof(float), count, stdout) != count) {
            throw std::runtime_error("the output cannot be written");
        }
    }
};

void run(const char *path) {
    torch::jit::ExtraFilesMap extra{{"streamdrnn.json", ""}};
    torch::jit::Module model = torch::jit::load(path, torch::kCPU, extra);
    std::cerr << extra["streamdrnn.json"] << '\n';  // what goes in and comes out, for those who read along

    const torch::InferenceMode inference;
    Stream stream(std::move(model));
    torch::Tensor x = read_steps(CHUNK, stream.size());
    if (x.size(0) > 0) {
        stream.push("chunk", x);
    }
    while ((x = read_steps(1, stream.size())).size(0) > 0) {
        stream.push("step", x[0]);
    }
    if (std::fflush(stdout) != 0) {  // what is buffered may be what does not fit any more
        throw std::runtime_error("the output cannot be written");
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
