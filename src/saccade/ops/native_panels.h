// Softmax attention in float32 by vectors of queries, for one group of key blocks at a time: every lane of a vector
// belongs to one query.
//
// Queries are transposed once; keys and values are read where they lie. Scores K Q^T and outputs V^T P^T both
// multiply a broadcast number by a vector of queries, so nothing else is packed and softmax needs no sum across lanes.
// Vectors are the compiler's own, as wide as its flags allow, so that one source serves every processor.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "native_job.h"

namespace {
#if defined(__AVX512F__)
constexpr int BYTES = 64, ROWS = 8;  // of a vector; keys or channels multiplied at once, as many as registers hold
#elif defined(__AVX__)
constexpr int BYTES = 32, ROWS = 6;
#elif defined(__SSE2__)
constexpr int BYTES = 16, ROWS = 6;
#else
constexpr int BYTES = 16, ROWS = 8;
#endif
constexpr int LANES = BYTES / sizeof(float);
constexpr int64_t GROUP = 256;  // keys between two rescalings, about
constexpr float LOW = -1e30f;  // the score of a pair not seen
constexpr float LN2 = 0.69314718055994531f;

typedef float Floats __attribute__((vector_size(BYTES)));
typedef int32_t Ints __attribute__((vector_size(BYTES)));

struct Task : Job<float> {  // tiles: (T c words), a bit for each query
  int64_t words() const { return (s + 31) / 32; }
  int64_t group() const { return c < GROUP ? GROUP / c : 1; }  // key blocks
};

// What a thread works with, by panel: q (w PAIR), total (dv PAIR), top and sum (PAIR); scores (keys PAIR) of one panel.
struct Space {
  std::vector<Floats> q, total, top, sum, scores;
};

// 2^x for x <= 0: a Chebyshev fit of relative error 2e-7, and the exponent's bits; 0 below 2^-126, NaN for NaN.
inline Floats power(Floats x) {
  const Floats shifted = x + 12582912.0f;  // by 1.5 * 2^23: the last bits are the nearest whole number
  const Floats r = x - (shifted - 12582912.0f);
  const Floats high = 0.05550327f + r * (0.009676037f + r * 0.0013400433f);
  const Floats p = 1.0f + r * (0.69314718f + r * (0.24022107f + r * high));
  const Ints bits = (Ints)p + ((Ints)shifted << 23);
  return (Floats)(x < -126.0f ? Ints{} : bits);
}

inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }

template <int R>
using Rows = std::integral_constant<int, R>;

// What is done for PANEL queries at once, as PAIR vectors: two where a block has queries for them.
template <int PAIR>
struct Panels {
  static constexpr int PANEL = PAIR * LANES;

  // As many rows as registers hold. Calls run(first, number) until all of n are taken; 8 are better taken as 4 and 4
  // than as 6 and single ones.
  static constexpr int MOST = 2 / PAIR * ROWS;
  template <typename F>
  static inline void in_rows(int64_t n, F run) {
    int64_t i = 0;
    for (; n - i >= MOST && (MOST != 6 || n - i != 8); i += MOST) run(i, Rows<MOST>());
    for (; MOST > 8 && n - i >= 8; i += 8) run(i, Rows<8>());
    for (; n - i >= 4; i += 4) run(i, Rows<4>());
    for (; i < n; ++i) run(i, Rows<1>());
  }

  // Scores of R keys (R w) for a panel of queries (w PAIR) -> (R PAIR).
  template <int R>
  static inline void score(const float* k, const Floats* q, int64_t w, Floats* to) {
    Floats at[R][PAIR] = {};
    for (int64_t x = 0; x < w; ++x)
      for (int i = 0; i < R; ++i)
        for (int j = 0; j < PAIR; ++j) at[i][j] += q[x * PAIR + j] * k[i * w + x];
    for (int i = 0; i < R; ++i)
      for (int j = 0; j < PAIR; ++j) to[i * PAIR + j] = at[i][j];
  }

  // R channels from x on of the values of blocks, weighted by p (keys PAIR), added to what is kept of total (R PAIR).
  template <int R>
  static inline void weigh(const Task& job, int64_t begin, int64_t end, int64_t x, const Floats* p, const Floats* kept,
                    Floats* total) {
    Floats at[R][PAIR];
    for (int i = 0; i < R; ++i)
      for (int j = 0; j < PAIR; ++j) at[i][j] = total[i * PAIR + j] * kept[j];
    for (int64_t b = begin; b < end; ++b) {
      const float* v = job.v + job.cols[b] * job.c * job.dv + x;
      for (int64_t key = 0; key < job.c; ++key, v += job.dv, p += PAIR)
        for (int i = 0; i < R; ++i)
          for (int j = 0; j < PAIR; ++j) at[i][j] += p[j] * v[i];
    }
    for (int i = 0; i < R; ++i)
      for (int j = 0; j < PAIR; ++j) total[i * PAIR + j] = at[i][j];
  }

  // Asks for numbers soon needed.
  static inline void fetch(const float* x, int64_t count) {
    for (int64_t i = 0; i < count; i += 64 / sizeof(float)) __builtin_prefetch(x + i, 0, 2);
  }

  // Scores (keys PAIR) of a block's unseen pairs, and of padded keys, become LOW.
  static void hide(const Task& job, Floats* scores, int64_t block, int64_t panel) {
    const uint8_t* keep = job.keep ? job.keep + job.cols[block] * job.c : nullptr;
    const uint8_t* tile = job.which[block] ? job.tiles + job.which[block] * job.c * job.words() * 4 : nullptr;
    Ints bit;
    for (int l = 0; l < LANES; ++l) bit[l] = 1 << l;
    for (int64_t key = 0; key < job.c; ++key)
      for (int j = 0; j < PAIR; ++j) {
        const int64_t query = panel * PANEL + j * LANES;
        uint32_t open = tile || (keep && !keep[key]) ? 0 : ~0u;
        if (tile && query < job.s && (!keep || keep[key]))
          std::memcpy(&open, tile + (key * job.words() + query / 32) * 4, 4);
        const Ints seen = bit & static_cast<int32_t>(open >> query % 32);
        scores[key * PAIR + j] = seen ? scores[key * PAIR + j] : Floats{} + LOW;
      }
  }

  // Scores (n PAIR), in powers of two, become weights; top, sum and what is kept of earlier weights follow.
  static void soften(Floats* scores, int64_t n, Floats* top, Floats* sum, Floats* kept) {
    Floats here[PAIR], base[PAIR], total[PAIR];
    for (int j = 0; j < PAIR; ++j) here[j] = top[j];
    for (int64_t i = 0; i < n; ++i)
      for (int j = 0; j < PAIR; ++j) here[j] = larger(scores[i * PAIR + j], here[j]);
    for (int j = 0; j < PAIR; ++j) {
      base[j] = here[j] > LOW ? here[j] : Floats{};  // where nothing is seen every weight is 0
      kept[j] = power(top[j] - base[j]);
      total[j] = sum[j] * kept[j];
      top[j] = here[j];
    }
    for (int64_t i = 0; i < n; ++i)
      for (int j = 0; j < PAIR; ++j) {
        const Floats p = power(scores[i * PAIR + j] - base[j]);
        scores[i * PAIR + j] = p;
        total[j] += p;
      }
    for (int j = 0; j < PAIR; ++j) sum[j] = total[j];
  }

  // A group of key blocks, merged into what the earlier ones gave.
  static void attend_group(const Task& job, Space& at, int64_t begin, int64_t end, int64_t panel) {
    Floats* scores = at.scores.data();
    const Floats* q = at.q.data() + panel * job.w * PAIR;
    Floats* total = at.total.data() + panel * job.dv * PAIR;
    Floats kept[PAIR];
    for (int64_t b = begin; b < end; ++b, scores += job.c * PAIR) {
      const float* k = job.k + job.cols[b] * job.c * job.w;
      const bool ahead = panel == 0 && b + 1 < job.starts[job.count];  // the last one asks for the next row
      in_rows(job.c, [&](int64_t i, auto r) {
        if (ahead) {
          fetch(job.v + (job.cols[b] * job.c + i) * job.dv, r() * job.dv);
          fetch(job.k + (job.cols[b + 1] * job.c + i) * job.w, r() * job.w);
        }
        score<r()>(k + i * job.w, q, job.w, scores + i * PAIR);
      });
      if (job.which[b] || job.keep) hide(job, scores, b, panel);
    }
    scores = at.scores.data();
    soften(scores, (end - begin) * job.c, &at.top[panel * PAIR], &at.sum[panel * PAIR], kept);
    in_rows(job.dv, [&](int64_t x, auto r) { weigh<r()>(job, begin, end, x, scores, kept, total + x * PAIR); });
  }

  // Where channel x of query i lies among panels.
  static inline int64_t place(int64_t i, int64_t x, int64_t width) {
    return (i / PANEL * width + x) * PANEL + i % PANEL;
  }
};
}  // namespace
