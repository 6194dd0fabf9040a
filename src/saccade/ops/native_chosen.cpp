// Softmax attention in float32 of each query to the groups of keys chosen for it. Each thread takes runs of queries of a
// head from a shared counter until none is left. Group by group, the queries of the run that chose it are brought
// together, attend to its keys, and go back with what they have so far: the softmax is online across groups too.
#include <algorithm>
#include <atomic>
#include <utility>

#include "native_panels.h"

namespace {
constexpr int64_t TOGETHER = 128;  // queries brought together at once
constexpr int64_t RUN = 2048;  // queries of a run: what they have so far stays near, and few lanes are left empty

struct Chosen {
  const float *q, *k, *v;  // (H n w), (K r w), (K r dv): keys in turn group by group
  const uint8_t *keep, *chosen;  // (B r) or null, (H g n)
  const int64_t* starts;  // (g + 1) of the groups among the keys
  float *out, *lse;  // (H n dv), (H n)
  int64_t heads, rows, shared, n, keys, groups, w, dv, threads;  // query heads in all; of a batch row; of a key head
  Parallel parallel;
  float scale;

  int64_t runs() const { return std::max<int64_t>(1, n / RUN); }  // of a head
};

// What the queries of a run have so far: totals lie in `out`.
struct State {
  std::vector<float> top, sum, spare;
  std::vector<int64_t> listed;  // queries that chose a group
};

// Some of the queries listed, to be brought together, and how many more come next.
struct Batch {
  const int64_t* queries;
  int64_t count, next;
};

template <size_t FROM, size_t... I>
inline Floats interleaved(Floats a, Floats b, std::index_sequence<I...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, (FROM + I / 2 + I % 2 * LANES)...);
#else
  return __builtin_shuffle(a, b, Ints{(FROM + I / 2 + I % 2 * LANES)...});
#endif
}

// Rows and columns exchanged, by interleaving halves until each number has moved all the way.
inline void turn(Floats (&square)[LANES]) {
  constexpr std::make_index_sequence<LANES> every;
  for (int done = 1; done < LANES; done *= 2) {
    Floats next[LANES];
    for (int i = 0; i < LANES / 2; ++i) {
      next[2 * i] = interleaved<0>(square[i], square[i + LANES / 2], every);
      next[2 * i + 1] = interleaved<LANES / 2>(square[i], square[i + LANES / 2], every);
    }
    for (int i = 0; i < LANES; ++i) square[i] = next[i];
  }
}

struct Groups : Panels<2> {
  // Rows into lanes, or back.
  template <bool BACK>
  static void move(const Batch& batch, float* x, int64_t width, float* spare, Floats* to, float factor) {
    for (int64_t i = 0; i < batch.count; i += LANES) {
      float* rows[LANES];
      for (int64_t l = 0; l < LANES; ++l) rows[l] = i + l < batch.count ? x + batch.queries[i + l] * width : spare;
      Floats* lanes = to + i / PANEL * width * 2 + i % PANEL / LANES;
      int64_t at = 0;
      for (; at + LANES <= width; at += LANES) {
        Floats square[LANES];
        for (int l = 0; l < LANES; ++l)
          if (BACK) square[l] = lanes[(at + l) * 2];
          else std::memcpy(&square[l], rows[l] + at, sizeof(Floats));
        turn(square);
        for (int l = 0; l < LANES; ++l)
          if (BACK) std::memcpy(rows[l] + at, &square[l], sizeof(Floats));
          else lanes[(at + l) * 2] = square[l] * factor;
      }
      for (; at < width; ++at)
        for (int l = 0; l < LANES; ++l)
          if (BACK) rows[l][at] = lanes[at * 2][l];
          else lanes[at * 2][l] = rows[l][at] * factor;
    }
  }

  // What the queries of a batch are, and what they have so far; and back.
  static void bring_in(const Chosen& job, Space& at, State& state, int64_t head, const Batch& batch) {
    float* q = const_cast<float*>(job.q) + head * job.n * job.w;  // only read
    move<false>(batch, q, job.w, state.spare.data(), at.q.data(), job.scale / LN2);
    move<false>(batch, job.out + head * job.n * job.dv, job.dv, state.spare.data(), at.total.data(), 1.0f);
    float *top = reinterpret_cast<float*>(at.top.data()), *sum = reinterpret_cast<float*>(at.sum.data());
    for (int64_t i = 0; i < batch.count; ++i) {
      top[i] = state.top[batch.queries[i]];
      sum[i] = state.sum[batch.queries[i]];
    }
  }

  static void bring_back(const Chosen& job, Space& at, State& state, int64_t head, const Batch& batch) {
    move<true>(batch, job.out + head * job.n * job.dv, job.dv, state.spare.data(), at.total.data(), 1.0f);
    const float *top = reinterpret_cast<float*>(at.top.data()), *sum = reinterpret_cast<float*>(at.sum.data());
    for (int64_t i = 0; i < batch.count; ++i) {
      state.top[batch.queries[i]] = top[i];
      state.sum[batch.queries[i]] = sum[i];
    }
  }

  // Asks for the rows of queries that are brought together next, as many as a panel holds.
  static void fetch_next(const Chosen& job, int64_t head, const Batch& batch, int64_t panel) {
    for (int64_t i = panel * PANEL; i < std::min(batch.next, (panel + 1) * PANEL); ++i) {
      const int64_t row = head * job.n + batch.queries[batch.count + i];
      fetch(job.q + row * job.w, job.w);
      fetch(job.out + row * job.dv, job.dv);
    }
  }

  // The queries of a batch attend to a group.
  static void attend_to(const Chosen& job, Space& at, int64_t head, int64_t group, const Batch& batch) {
    static const int64_t cols[] = {0, 1}, none = 0, starts[] = {0, 2};  // what lies behind comes next
    const int64_t from = head / job.shared * job.keys;
    for (int64_t key = job.starts[group]; key < job.starts[group + 1]; key += GROUP) {
      Task piece{};
      piece.k = job.k + (from + key) * job.w;
      piece.v = job.v + (from + key) * job.dv;
      piece.keep = job.keep ? job.keep + head / job.rows * job.keys + key : nullptr;
      piece.cols = cols;
      piece.which = &none;
      piece.starts = starts;
      piece.count = 1, piece.s = TOGETHER, piece.w = job.w, piece.dv = job.dv;
      piece.c = std::min(GROUP, job.starts[group + 1] - key);
      for (int64_t panel = 0; panel * PANEL < batch.count; ++panel) {
        if (key == job.starts[group]) fetch_next(job, head, batch, panel);
        attend_group(piece, at, 0, 1, panel);
      }
    }
  }

  static void attend_run(const Chosen& job, Space& at, State& state, int64_t head, int64_t first, int64_t last) {
    state.top.assign(job.n, LOW);
    state.sum.assign(job.n, 0.0f);
    state.listed.resize(job.n);
    for (int64_t group = 0; group < job.groups; ++group) {
      const uint8_t* chose = job.chosen + (head * job.groups + group) * job.n;
      int64_t all = 0;
      for (int64_t query = first; query < last; ++query) {
        state.listed[all] = query;
        all += chose[query];
      }
      for (int64_t done = 0; done < all; done += TOGETHER) {
        const int64_t left = all - done;
        const Batch batch{state.listed.data() + done, std::min(left, TOGETHER), std::max<int64_t>(left - TOGETHER, 0)};
        bring_in(job, at, state, head, batch);
        attend_to(job, at, head, group, batch);
        bring_back(job, at, state, head, batch);
      }
    }
    for (int64_t query = first; query < last; ++query) finish(job, state, head * job.n + query, query);
  }

  static void finish(const Chosen& job, const State& state, int64_t row, int64_t i) {
    const float sum = state.sum[i], share = sum > 0 ? 1.0f / sum : sum == 0 ? 0.0f : sum;  // NaN stays NaN
    for (int64_t x = 0; x < job.dv; ++x) job.out[row * job.dv + x] *= share;
    job.lse[row] = sum == 0 ? -INFINITY : state.top[i] * LN2 + std::log(sum);
  }

  static void attend_runs(const Chosen& job, std::atomic<int64_t>& next) {
    const int64_t panels = TOGETHER / PANEL, runs = job.runs(), length = (job.n + runs - 1) / runs;
    Space at{std::vector<Floats>(panels * job.w * 2), std::vector<Floats>(panels * job.dv * 2),
             std::vector<Floats>(panels * 2), std::vector<Floats>(panels * 2), std::vector<Floats>(GROUP * 2)};
    State state;
    state.spare.assign(std::max(job.w, job.dv), 0.0f);
    for (int64_t number; (number = next++) < job.heads * runs;) {
      const int64_t first = number % runs * length;
      attend_run(job, at, state, number / runs, first, std::min(job.n, first + length));
    }
  }
};
}  // namespace

// out must be 0.
extern "C" int saccade_attend_chosen(const Chosen* job) {
  std::atomic<int64_t> next{0};
  return shared(job->parallel, job->threads, [&] { Groups::attend_runs(*job, next); });
}
