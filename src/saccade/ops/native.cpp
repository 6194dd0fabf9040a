// Block-sparse softmax attention in float32: each thread takes query blocks from a shared counter until none is left; one
// pass over the keys of each, online softmax.
#include <atomic>

#include "native_panels.h"

namespace {
template <int PAIR>
struct Blocks : Panels<PAIR> {
  using Panels<PAIR>::PANEL, Panels<PAIR>::place, Panels<PAIR>::attend_group;

  static void set_out(const Task& job, Space& at, int64_t row) {
    const float* q = job.q + row * job.s * job.w;
    float* to = reinterpret_cast<float*>(at.q.data());
    for (int64_t i = 0; i < job.s; ++i)
      for (int64_t x = 0; x < job.w; ++x) to[place(i, x, job.w)] = q[i * job.w + x] * (job.scale / LN2);
    at.total.assign(at.total.size(), Floats{});
    at.sum.assign(at.sum.size(), Floats{});
    at.top.assign(at.top.size(), Floats{} + LOW);
  }

  static void bring_home(const Task& job, const Space& at, int64_t row) {
    const float* total = reinterpret_cast<const float*>(at.total.data());
    const float* sums = reinterpret_cast<const float*>(at.sum.data());
    const float* tops = reinterpret_cast<const float*>(at.top.data());
    float* out = job.out + row * job.s * job.dv;
    for (int64_t i = 0; i < job.s; ++i) {
      const float sum = sums[i], share = sum > 0 ? 1.0f / sum : sum == 0 ? 0.0f : sum;  // NaN stays NaN
      for (int64_t x = 0; x < job.dv; ++x) out[i * job.dv + x] = total[place(i, x, job.dv)] * share;
      job.lse[row * job.s + i] = sum == 0 ? -INFINITY : tops[i] * LN2 + std::log(sum);
    }
  }

  static void attend_rows(const Task& job, std::atomic<int64_t>& next) {
    const int64_t panels = (job.s + PANEL - 1) / PANEL;
    Space at{std::vector<Floats>(panels * job.w * PAIR), std::vector<Floats>(panels * job.dv * PAIR),
             std::vector<Floats>(panels * PAIR), std::vector<Floats>(panels * PAIR),
             std::vector<Floats>(job.group() * job.c * PAIR)};
    for (int64_t number; (number = next++) < job.count;) {
      const int64_t last = job.starts[number + 1];
      set_out(job, at, job.rows[number]);
      for (int64_t begin = job.starts[number], end; begin < last; begin = end) {
        end = begin + job.group() < last ? begin + job.group() : last;
        for (int64_t panel = 0; panel < panels; ++panel) attend_group(job, at, begin, end, panel);
      }
      bring_home(job, at, job.rows[number]);
    }
  }
};
}  // namespace

extern "C" int saccade_attend(const Task* job) {
  std::atomic<int64_t> next{0};
  const auto attend_rows = job->s > LANES ? Blocks<2>::attend_rows : Blocks<1>::attend_rows;
  return shared(job->parallel, job->threads, [&] { attend_rows(*job, next); });
}

// Multiply-adds in registers alone, the most this processor can do: how many each call of one thread did.
extern "C" int64_t saccade_multiply_adds(int64_t rounds, float* number) {
  constexpr int COUNT = 2 * ROWS;
  Floats at[COUNT];
  const Floats factor = Floats{} + *number;
  for (auto& x : at) x = factor;
  for (int64_t i = 0; i < rounds; ++i)
    for (auto& x : at) x = x * factor + factor;
  for (auto& x : at) *number += x[0];
  return rounds * COUNT * LANES;
}
