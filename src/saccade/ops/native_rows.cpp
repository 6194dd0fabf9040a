// Rows brought into another order, whatever lies between them.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "native_job.h"

namespace {
constexpr int64_t PIECE = 4096;  // rows taken at once

struct Rows {
  const char* from;  // (b h n bytes), with strides
  char* to;  // (b h m bytes)
  const int64_t* order;  // (m)
  int64_t b, h, m, bytes, over_b, over_h, over_n, threads;  // strides in bytes
  Parallel parallel;
};

void move_piece(const Rows& job, int64_t piece) {
  const int64_t end = std::min((piece + 1) * PIECE, job.b * job.h * job.m);
  for (int64_t row = piece * PIECE; row < end; ++row) {
    const int64_t head = row / job.m, at = job.order[row % job.m] * job.over_n;
    const char* from = job.from + head / job.h * job.over_b + head % job.h * job.over_h + at;
    std::memcpy(job.to + row * job.bytes, from, job.bytes);
  }
}
}  // namespace

extern "C" int saccade_move_rows(const Rows* job) {
  const int64_t pieces = (job->b * job->h * job->m + PIECE - 1) / PIECE;
  std::atomic<int64_t> next{0};
  return shared(job->parallel, std::min(job->threads, pieces), [&] {
    for (int64_t piece; (piece = next++) < pieces;) move_piece(*job, piece);
  });
}
