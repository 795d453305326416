// Is it the voice that we know? Asked in an audio callback: in real time, without memory being taken, locks, or system calls.
//
//   c++ -std=c++17 audio_callback.cpp -lstreamdrnn -lm -o audio_callback
//   ./audio_callback speaker.safetensors known.f32 heard.f32      (a SpeakerEmbedder; raw float32 at its sample rate)
#include <streamdrnn.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <numeric>
#include <stdexcept>
#include <vector>

void check(int code) {
    if (code != STREAMDRNN_OK) throw std::runtime_error(streamdrnn_message(code));
}

class Voice {
  public:
    Voice(const std::vector<char> &file, int64_t block_size) {
        check(streamdrnn_model_load(file.data(), file.size(), STREAMDRNN_FLOAT32, nullptr, &model_, nullptr, 0));
        check(streamdrnn_streams_new(model_, 1, &streams_));
        streamdrnn_model_info(model_, &info_);
        y_.resize(static_cast<size_t>(streamdrnn_most_steps(streams_, block_size) * info_.output_size));
        known_.resize(static_cast<size_t>(info_.output_size));
    }
    Voice(const Voice &) = delete;
    ~Voice() { streamdrnn_streams_free(streams_), streamdrnn_model_free(model_); }

    // On the audio thread, from PortAudio's callback or JUCE's processBlock: at most block_size samples.
    bool process(const float *block, int64_t samples) noexcept {
        int64_t steps;
        if (streamdrnn_push(streams_, samples, block, nullptr, y_.data(), &steps) != STREAMDRNN_OK) return false;
        if (steps)
            similarity = std::inner_product(known_.begin(), known_.end(), &y_[(steps - 1) * info_.output_size], 0.0f);
        return true;
    }
    // Between two runs: the voice that was heard is known from now on.
    void remember() { check(streamdrnn_output(streams_, 0, known_.data())), check(streamdrnn_reset(streams_, 0)); }

    std::atomic<float> similarity{0};  // to the known voice, for other threads to read: a cosine

  private:
    streamdrnn_model *model_ = nullptr;
    streamdrnn_streams *streams_ = nullptr;
    streamdrnn_info info_;
    std::vector<float> y_, known_;
};

std::vector<char> content(const char *path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

// In the place of a sound card: block after block.
void play(const std::vector<char> &bytes, int64_t block_size, Voice &voice) {
    const float *const samples = reinterpret_cast<const float *>(bytes.data());
    const int64_t end = static_cast<int64_t>(bytes.size() / sizeof(float)) - block_size;
    for (int64_t at = 0; at <= end; at += block_size)
        if (!voice.process(samples + at, block_size)) throw std::runtime_error("a sample is no number");
}

int main(int argc, char **argv) try {
    if (argc != 4) throw std::runtime_error("usage: audio_callback MODEL KNOWN HEARD");
    constexpr int64_t BLOCK = 256;
    Voice voice(content(argv[1]), BLOCK);
    play(content(argv[2]), BLOCK, voice);
    voice.remember();
    play(content(argv[3]), BLOCK, voice);
    std::printf("%.4f\n", static_cast<double>(voice.similarity));
} catch (const std::exception &error) {
    return std::fprintf(stderr, "%s\n", error.what()), 1;
}
