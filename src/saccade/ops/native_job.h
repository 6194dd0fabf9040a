// What the compiled kernels are asked, and threads to do it by.
#pragma once
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);

template <typename T>
struct Job {
  const T *q, *k, *v;  // (R s w), (C c w), (C c dv)
  T *kt, *vt;  // room for keys and values in another order
  const uint8_t *keep, *tiles;  // (C c) or null; tile 0 is all open
  const int64_t *rows, *cols, *which, *starts;
  T* out;  // (R s dv)
  float* lse;  // (R s)
  int64_t count, blocks, s, c, w, dv, threads;
  Parallel parallel;  // GOMP_parallel of torch's own pool: others would share the cores with its workers, which spin on
  float scale;
};

// Runs work on every thread; returns whether one failed.
template <typename F>
bool shared(Parallel parallel, int64_t threads, F work) {
  std::atomic<bool> failed{false};
  auto guarded = [&] {
    try {
      work();
    } catch (...) {
      failed = true;
    }
  };
  if (parallel) {
    parallel([](void* it) { (*static_cast<decltype(guarded)*>(it))(); }, &guarded, threads, 0);
    return failed;
  }
  std::vector<std::thread> others;
  for (int64_t i = 1; i < threads; ++i) others.emplace_back(guarded);
  guarded();
  for (auto& other : others) other.join();
  return failed;
}
