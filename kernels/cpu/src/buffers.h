// The owners of memory: a buffer of floats, and a scratch that is laid out in one. README.md says why not std's.
#pragma once
#include "memory.h"
#include "sizes.h"

#include <cstdlib>
#include <cstring>

namespace streamdrnn::STREAMDRNN_LEVEL {

// Floats on cache lines of their own; none, where there is no memory.
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

  private:
    float *data_ = nullptr;
};

inline void copy(const float *from, int64_t floats, float *to) {
    std::memcpy(to, from, static_cast<size_t>(floats) * sizeof(float));
}
inline void clear(float *p, int64_t floats) { std::memset(p, 0, static_cast<size_t>(floats) * sizeof(float)); }

// A number of things in a scratch; none while it is measured.
template <class T> struct Slots {
    T *items = nullptr;
    T &operator[](int64_t i) const { return items[i]; }
};

// Memory in one piece. `layout` is called twice: first to add up the sizes, then to hand them out.
class Scratch {
  public:
    Scratch() = default;
    // In memory that is there already. What does not fit is taken from the system.
    Scratch(float *given, int64_t floats) : given_(given), given_floats_(floats) {}

    // Whether there was memory; without it nothing was handed out.
    template <class Layout> bool lay_out(Layout layout) {
        if (measure(layout) > given_floats_) memory_ = Buffer(taken_);
        begin_ = taken_ > given_floats_ ? memory_.get() : given_;
        if (!begin_) return taken_ == 0;
        taken_ = 0;
        layout();
        return true;
    }
    // The floats that it takes.
    template <class Layout> int64_t measure(Layout layout) {
        begin_ = nullptr, taken_ = 0;
        layout();
        return taken_;
    }
    float *take(int64_t floats) {
        float *const p = begin_ ? begin_ + taken_ : nullptr;
        taken_ += round_up(floats, 16);
        return p;
    }
    template <class T> T *take_some(int64_t count) {
        return reinterpret_cast<T *>(take(ceil_div(count * static_cast<int64_t>(sizeof(T)), sizeof(float))));
    }
    template <class T> void take(Slots<T> &to, int64_t count) { to.items = take_some<T>(count); }
    // For one of them, so many things that it points to.
    template <class T> void take(Slots<T *> &to, int64_t i, int64_t count) {
        T *const p = take_some<T>(count);
        if (to.items) to[i] = p;
    }

  private:
    float *given_ = nullptr, *begin_ = nullptr;
    int64_t given_floats_ = 0, taken_ = 0;
    Buffer memory_;
};

}  // namespace streamdrnn::STREAMDRNN_LEVEL
