// The owners of memory: a buffer of floats, an array of anything, the scratch of a pass. README.md says why not std's.
#pragma once
#include "memory.h"
#include "sizes.h"

#include <cstdlib>
#include <cstring>

namespace streamdrnn::STREAMDRNN_LEVEL {

// Floats on cache lines of their own.
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(int64_t floats) : data_(allocate(floats)) {}
    Buffer(Buffer &&other) noexcept : data_(other.data_) { other.data_ = nullptr; }
    Buffer &operator=(Buffer &&other) noexcept {
        float *const mine = data_;
        data_ = other.data_;
        other.data_ = mine;
        return *this;
    }
    ~Buffer() { std::free(data_); }

    float *get() const { return data_; }
    static Buffer zeros(int64_t floats) {
        Buffer b(floats);
        std::memset(b.data_, 0, static_cast<size_t>(floats) * sizeof(float));
        return b;
    }

  private:
    float *data_ = nullptr;
};

// A number of things that is known at run time only.
template <class T> class Array {
  public:
    Array() = default;
    explicit Array(int64_t count) : items_(new T[static_cast<size_t>(count)]()) {}
    Array(const Array &) = delete;
    Array &operator=(Array &&other) noexcept {
        T *const mine = items_;
        items_ = other.items_;
        other.items_ = mine;
        return *this;
    }
    ~Array() { delete[] items_; }
    T &operator[](int64_t i) const { return items_[i]; }

  private:
    T *items_ = nullptr;
};

// The scratch memory of a pass in one piece. `layout` is called twice: first to add up the sizes, then to hand them
// out.
class Scratch {
  public:
    template <class Layout> void lay_out(Layout layout) {
        taken_ = 0;
        layout();
        memory_ = Buffer(taken_);
        taken_ = 0;
        layout();
    }
    float *take(int64_t floats) {
        float *const p = memory_.get() ? memory_.get() + taken_ : nullptr;
        taken_ += round_up(floats, 16);
        return p;
    }

  private:
    Buffer memory_;
    int64_t taken_ = 0;
};

}  // namespace streamdrnn::STREAMDRNN_LEVEL
