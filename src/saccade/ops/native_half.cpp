// Block-sparse softmax attention in bfloat16 over packed blocks, by the matrix products of torch's own CPU library.
// Each thread takes query blocks from a shared counter until none is left; one pass over the keys, online softmax.
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "native_job.h"

namespace c10 {
struct BFloat16;
}
namespace at::native::cpublas {
void brgemm(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, bool, const c10::BFloat16*, const c10::BFloat16*,
            float*, bool);
void brgemm_release(bool);
}  // namespace at::native::cpublas

namespace {
using bf16 = uint16_t;
constexpr int64_t GROUP = 4;  // key blocks attended to between two rescalings
constexpr float LOW = -1e30f;  // the score of a pair not seen
constexpr float LOG2E = 1.44269504088896f;

using Task = Job<bf16>;  // tiles: (T s c), a byte for each pair

// 2^x for x <= 0: a Chebyshev fit of relative error 4e-6, and the exponent's bits; 0 below 2^-126.
inline float power(float x) {
  const float n = std::nearbyint(x), r = x - n;
  const float high = 0.05592203f + r * 0.009676037f;
  float p = 1.0f + r * (0.69312102f + r * (0.24022107f + r * high));
  int32_t bits;
  std::memcpy(&bits, &p, sizeof bits);
  bits += static_cast<int32_t>(n) * (1 << 23);
  std::memcpy(&p, &bits, sizeof p);
  return x < -126.0f ? 0.0f : p;
}

// Weights are never negative, and a tie may go up.
inline bf16 weight(float x) {
  uint32_t u;
  std::memcpy(&u, &x, sizeof u);
  return static_cast<bf16>((u + 0x8000) >> 16);
}

inline bf16 rounded(float x) {
  uint32_t u;
  std::memcpy(&u, &x, sizeof u);
  return static_cast<bf16>((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

void product(int64_t m, int64_t n, int64_t k, int64_t lda, int64_t ldb, int64_t ldc, bool add, const bf16* a,
             const bf16* b, float* c) {
  using c10::BFloat16;
  at::native::cpublas::brgemm(m, n, k, lda, ldb, ldc, add, reinterpret_cast<const BFloat16*>(a),
                              reinterpret_cast<const BFloat16*>(b), c, true);
}

// Scores of a tile's unseen pairs, and of padded keys, become LOW.
void hide(const Task& job, float* scores, int64_t ld, int64_t col, int64_t tile) {
  const uint8_t* open = tile ? job.tiles + tile * job.s * job.c : nullptr;
  const uint8_t* keep = job.keep ? job.keep + col * job.c : nullptr;
  for (int64_t i = 0; i < job.s && open; ++i)
    for (int64_t j = 0; j < job.c; ++j) scores[i * ld + j] = open[i * job.c + j] ? scores[i * ld + j] : LOW;
  for (int64_t i = 0; i < job.s && keep; ++i)
    for (int64_t j = 0; j < job.c; ++j) scores[i * ld + j] = keep[j] ? scores[i * ld + j] : LOW;
}

inline float largest(const float* x, int64_t n) {
  float top = LOW;
#pragma omp simd reduction(max : top)
  for (int64_t j = 0; j < n; ++j) top = x[j] > top ? x[j] : top;
  return top;
}

// p = 2^(scale x - top); returns the sum.
inline float powers(const float* x, bf16* p, int64_t n, float scale, float top) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; ++j) {
    const float e = power(x[j] * scale - top);
    p[j] = weight(e);
    sum += e;
  }
  return sum;
}

struct Space {
  std::vector<float> scores, total, top, sum;
  std::vector<bf16> weights;
};

// Softmax of one group of blocks, merged into what the earlier groups gave; maxima are kept in powers of two.
void soften(const Task& job, Space& at, int64_t n, int64_t ld) {
  const float scale = job.scale * LOG2E;
  for (int64_t i = 0; i < job.s; ++i) {
    const float* x = at.scores.data() + i * ld;
    bf16* p = at.weights.data() + i * ld;
    const float here = largest(x, n);
    if (here <= LOW) {  // nothing seen here, or nothing but NaN, which no maximum shows
      for (int64_t j = 0; j < n; ++j) at.sum[i] = x[j] != x[j] ? x[j] : at.sum[i];
      std::memset(p, 0, n * sizeof(bf16));
      continue;
    }
    const float top = here * scale > at.top[i] ? here * scale : at.top[i];
    const float kept = at.top[i] <= LOW ? 0.0f : power(at.top[i] - top);
    at.sum[i] = at.sum[i] * kept + powers(x, p, n, scale, top);
    at.top[i] = top;
    float* total = at.total.data() + i * job.dv;
    if (kept != 1.0f)
      for (int64_t j = 0; j < job.dv; ++j) total[j] *= kept;
  }
}

void attend_row(const Task& job, Space& at, int64_t number) {
  const int64_t row = job.rows[number], first = job.starts[number], last = job.starts[number + 1];
  const int64_t ld = GROUP * job.c;
  const bf16* q = job.q + row * job.s * job.w;
  at.total.assign(job.s * job.dv, 0.0f);
  at.top.assign(job.s, LOW);
  at.sum.assign(job.s, 0.0f);
  for (int64_t begin = first; begin < last; begin += GROUP) {
    const int64_t end = begin + GROUP < last ? begin + GROUP : last;
    for (int64_t b = begin; b < end; ++b) {
      float* scores = at.scores.data() + (b - begin) * job.c;
      const bf16* kt = job.kt + job.cols[b] * job.c * job.w;
      product(job.s, job.c, job.w, job.w, job.c, ld, false, q, kt, scores);
      if (job.which[b] || job.keep) hide(job, scores, ld, job.cols[b], job.which[b]);
    }
    soften(job, at, (end - begin) * job.c, ld);
    for (int64_t b = begin; b < end; ++b) {
      const bf16* v = job.vt + job.cols[b] * job.c * job.dv;
      product(job.s, job.dv, job.c, ld, job.dv, job.dv, true, at.weights.data() + (b - begin) * job.c, v,
              at.total.data());
    }
  }
  bf16* out = job.out + row * job.s * job.dv;
  for (int64_t i = 0; i < job.s; ++i) {
    const float share = at.sum[i] > 0 ? 1.0f / at.sum[i] : at.sum[i] == 0 ? 0.0f : at.sum[i];  // NaN stays NaN
    for (int64_t j = 0; j < job.dv; ++j) out[i * job.dv + j] = rounded(at.total[i * job.dv + j] * share);
    job.lse[row * job.s + i] = at.sum[i] == 0 ? -INFINITY : at.top[i] / LOG2E + std::log(at.sum[i]);
  }
}

void attend_rows(const Task& job, std::atomic<int64_t>& next) {
  Space at;
  at.scores.resize(job.s * GROUP * job.c);
  at.weights.resize(job.s * GROUP * job.c);
  at.top.resize(job.s);
  at.sum.resize(job.s);
  for (int64_t i; (i = next++) < job.count;) attend_row(job, at, i);
  at::native::cpublas::brgemm_release(true);
}

// a0 b0 a1 b1 ...
inline void interleave(const bf16* a, const bf16* b, bf16* to, int64_t n) {
  for (int64_t j = 0; j < n; ++j) {
    to[2 * j] = a[j];
    to[2 * j + 1] = b[j];
  }
}

void transposed(const uint32_t* from, uint32_t* to, int64_t rows, int64_t columns) {
  for (int64_t j = 0; j < columns; ++j)
    for (int64_t i = 0; i < rows; ++i) to[j * rows + i] = from[i * columns + j];
}

// Keys (c w) -> (w c), and pairs of rows of both right-hand sides interleaved, as the products take them.
void pack_block(const Task& job, int64_t block) {
  const int64_t keys = block * job.c * job.w, values = block * job.c * job.dv;
  transposed(reinterpret_cast<const uint32_t*>(job.k + keys), reinterpret_cast<uint32_t*>(job.kt + keys), job.c,
             job.w / 2);
  for (int64_t i = 0; i < job.c; i += 2) {
    const bf16* v = job.v + values + i * job.dv;
    interleave(v, v + job.dv, job.vt + values + i * job.dv, job.dv);
  }
}
}  // namespace

extern "C" int saccade_attend(const Task* job) {
  std::atomic<int64_t> block{0}, row{0};
  const bool failed = shared(job->parallel, job->threads, [&] {
    for (int64_t i; (i = block++) < job->blocks;) pack_block(*job, i);
  });
  return failed || shared(job->parallel, job->threads, [&] { attend_rows(*job, row); });
}
