// A model's file, which is not trusted. Compiled once, without the C++ library.
#pragma once
#include "description.h"

#include <cstddef>

namespace streamdrnn {

// A model as its file describes it, with a copy of its weights.
class LoadedModel {
  public:
    LoadedModel() = default;
    LoadedModel(const LoadedModel &) = delete;
    LoadedModel &operator=(const LoadedModel &) = delete;
    ~LoadedModel();

    // Read the bytes of a file that streamdrnn/checkpoint.py wrote; once. Returns a code of streamdrnn.h. What is wrong
    // with the file is said in one line in `why`, which has `room` bytes or is NULL.
    int load(const void *file, size_t size, char *why, size_t room);

    const Description &description() const { return description_; }

  private:
    Description description_{};
    streamdrnn_layer *layer_ = nullptr;
    float *weights_ = nullptr;
};

}  // namespace streamdrnn
