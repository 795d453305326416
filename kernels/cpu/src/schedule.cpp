// In the C library (STREAMDRNN_LIBRARY) the caller's thread does all the work, and nothing of C++'s own library is used.
//
// Threads are made for a call and joined at its end. That takes some microseconds of a call that takes milliseconds. In
// return nothing spins or sleeps between calls, and a process may fork at any time.
#include "schedule.h"

#ifndef STREAMDRNN_LIBRARY
#include <atomic>
#include <exception>
#include <memory>
#include <thread>
#include <vector>
#endif

namespace streamdrnn {
namespace {

void run_in_order(int64_t groups, int64_t layers, int64_t blocks, Task task, void *context) {
    for (int64_t group = 0; group < groups; group++)
        for (int64_t block = 0; block < blocks; block++)
            for (int64_t layer = 0; layer < layers; layer++) task(context, 0, group, layer, block);
}

void run_in_order(int64_t parts, Task task, void *context) {
    for (int64_t part = 0; part < parts; part++) task(context, 0, part, 0, 0);
}

#ifndef STREAMDRNN_LIBRARY

struct Stage {
    std::atomic<int64_t> done{0};
    std::atomic<bool> taken{false};
};

class Pipelines {
  public:
    Pipelines(int64_t groups, int64_t layers, int64_t blocks, Task task, void *context)
        : groups_(groups), layers_(layers), blocks_(blocks), task_(task), context_(context),
          stages_(new Stage[static_cast<size_t>(groups * layers)]), left_(groups * layers * blocks) {}

    void work(int worker, int threads) {
        int64_t group = worker * groups_ / threads;  // far from the others, for the sake of the caches
        for (int idle = 0; left_.load(std::memory_order_acquire) > 0;) {
            bool found = false;
            for (int64_t tried = 0; tried < groups_ && !found; tried++) {
                found = advance(worker, group);
                if (!found) group = (group + 1) % groups_;
            }
            idle = found ? 0 : idle + 1;
            if (idle > 100) std::this_thread::yield();
        }
    }

  private:
    // One block of the deepest layer that is ready: what it reads is still in the cache.
    bool advance(int worker, int64_t group) {
        for (int64_t layer = layers_ - 1; layer >= 0; layer--) {
            Stage &stage = at(group, layer);
            if (!ready(group, layer) || stage.taken.exchange(true, std::memory_order_acquire)) continue;
            const bool still = ready(group, layer);
            if (still) {
                const int64_t block = stage.done.load(std::memory_order_relaxed);
                task_(context_, worker, group, layer, block);
                stage.done.store(block + 1, std::memory_order_release);
            }
            stage.taken.store(false, std::memory_order_release);
            if (still) {
                left_.fetch_sub(1, std::memory_order_release);
                return true;
            }
        }
        return false;
    }

    bool ready(int64_t group, int64_t layer) {
        const int64_t block = done(group, layer);
        return block < blocks_ && (layer == 0 || done(group, layer - 1) > block) &&
               (layer == layers_ - 1 || done(group, layer + 1) + LEAD > block);
    }

    Stage &at(int64_t group, int64_t layer) { return stages_[static_cast<size_t>(group * layers_ + layer)]; }
    int64_t done(int64_t group, int64_t layer) { return at(group, layer).done.load(std::memory_order_acquire); }

    const int64_t groups_, layers_, blocks_;
    const Task task_;
    void *const context_;
    const std::unique_ptr<Stage[]> stages_;
    std::atomic<int64_t> left_;
};

// f(worker) on this thread and up to threads - 1 others; if the system gives no more threads, on fewer.
template <class F> void on_threads(int threads, F f) {
    std::vector<std::thread> others;
    try {
        others.reserve(static_cast<size_t>(threads));
        for (int worker = 1; worker < threads; worker++) others.emplace_back(f, worker);
    } catch (const std::exception &) {
    }
    f(0);
    for (std::thread &other : others) other.join();
}

#endif

}  // namespace

int useful_threads(int threads, int64_t multiply_adds) {
    const int64_t worth = multiply_adds / 2'000'000;  // with less to do, a thread costs more than it brings
    return threads <= 1 || worth <= 1 ? 1 : threads <= worth ? threads : static_cast<int>(worth);
}

#ifdef STREAMDRNN_LIBRARY

void run_pipelines(int, int64_t groups, int64_t layers, int64_t blocks, Task task, void *context) {
    run_in_order(groups, layers, blocks, task, context);
}

void run_parts(int, int64_t parts, Task task, void *context) { run_in_order(parts, task, context); }

#else

void run_pipelines(int threads, int64_t groups, int64_t layers, int64_t blocks, Task task, void *context) {
    if (threads > groups * layers) threads = static_cast<int>(groups * layers);
    if (threads <= 1) return run_in_order(groups, layers, blocks, task, context);
    try {
        Pipelines pipelines(groups, layers, blocks, task, context);
        on_threads(threads, [&](int worker) { pipelines.work(worker, threads); });
    } catch (const std::bad_alloc &) {  // for the pipelines themselves: nothing has been computed
        run_in_order(groups, layers, blocks, task, context);
    }
}

void run_parts(int threads, int64_t parts, Task task, void *context) {
    if (threads > parts) threads = static_cast<int>(parts);
    if (threads <= 1) return run_in_order(parts, task, context);
    std::atomic<int64_t> next{0};
    on_threads(threads, [&](int worker) {
        for (int64_t part = next.fetch_add(1); part < parts; part = next.fetch_add(1))
            task(context, worker, part, 0, 0);
    });
}

#endif

}  // namespace streamdrnn
