"""The forward kernel. One program: some queries of one block, one batch row and head; it walks the blocks they read.

Scores are kept in powers of two; lse is the natural one. A query without a key gives 0 and -inf.
"""
# Triton compiles these functions from their source, by rules of its own:
# pyright: reportArgumentType=false, reportReturnType=false, reportGeneralTypeIssues=false
# pyright: reportAttributeAccessIssue=false, reportAssignmentType=false, reportCallIssue=false

import triton
import triton.language as tl

from saccade.ops.triton_kernel.pieces import (
    LOG2E,
    add_product,
    load_rows,
    open_pairs,
    rows_times_rows,
    store_rows,
    times_rows,
    zeros,
)


@triton.jit
def walk(
    q0: tl.tensor, q1: tl.tensor, sum0: tl.tensor, sum1: tl.tensor, top: tl.tensor, total: tl.tensor,
    K: tl.tensor, V: tl.tensor, KEEP: tl.tensor, ORDER_K: tl.tensor, BITS: tl.tensor, COLS: tl.tensor, WHICH: tl.tensor,
    count: tl.tensor, queries: tl.tensor, m: tl.tensor, stride_k: tl.tensor, stride_v: tl.tensor, scale2: tl.tensor,
    W: tl.constexpr, D: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr,
    SIZE_Q: tl.constexpr, SIZE_K: tl.constexpr, KEYS: tl.constexpr, MIXED: tl.constexpr, HAS_KEEP: tl.constexpr,
    HAS_ORDER: tl.constexpr, SHORT: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """The online softmax over `count` blocks. The next block's number is read a turn ahead: read in its own turn it
    would cost the loop a stage.
    """
    TURNS: tl.constexpr = SIZE_K // KEYS
    WORDS: tl.constexpr = SIZE_K // 32
    CHECK: tl.constexpr = SHORT and MIXED
    block = tl.load(COLS, mask=count > 0, other=0)
    tile = tl.load(WHICH, mask=count > 0, other=0) if MIXED else block
    for turn in tl.range(0, count * TURNS, num_stages=STAGES):
        j = block * SIZE_K + turn % TURNS * KEYS + tl.arange(0, KEYS)
        real = j < m
        at = tl.load(ORDER_K + j, mask=real, other=0) if HAS_ORDER else j
        k0, k1 = load_rows(K, at, stride_k, real, W0, W1, W, CHECK)
        s = rows_times_rows(q0, q1, k0, k1, W1, PRECISION) * scale2
        if MIXED:
            words = BITS + (tile * SIZE_Q + queries) * WORDS + turn % TURNS * (KEYS // 32)
            s = tl.where(open_pairs(words, KEYS, False), s, float("-inf"))
        if HAS_KEEP:
            s = tl.where((tl.load(KEEP + at, mask=real, other=0) != 0)[None, :], s, float("-inf"))
        peak = tl.maximum(top, tl.max(s, 1))
        shift = tl.where(peak == float("-inf"), 0.0, peak) if MIXED or HAS_KEEP else peak
        p = tl.exp2(s - shift[:, None])
        shrink = tl.exp2(top - shift)
        total = total * shrink + tl.sum(p, 1)
        v0, v1 = load_rows(V, at, stride_v, real, D0, D1, D, CHECK)
        sum0, sum1 = times_rows(sum0, sum1, shrink, D1)
        sum0, sum1 = add_product(sum0, sum1, p, v0, v1, D1, PRECISION)
        top = peak
        ahead = (turn + 1) // TURNS
        block = tl.load(COLS + ahead, mask=ahead < count, other=0)
        if MIXED:
            tile = tl.load(WHICH + ahead, mask=ahead < count, other=0)
    return sum0, sum1, top, total


@triton.jit
def attend(
    Q: tl.tensor, K: tl.tensor, V: tl.tensor, OUT: tl.tensor, LSE: tl.tensor, KEEP: tl.tensor,
    ORDER: tl.tensor, SPANS: tl.tensor, COLS: tl.tensor, WHICH: tl.tensor, BITS: tl.tensor,
    ORDER_Q: tl.tensor, ORDER_K: tl.tensor,
    stride_qb: tl.tensor, stride_qh: tl.tensor, stride_qn: tl.tensor,
    stride_kb: tl.tensor, stride_kh: tl.tensor, stride_kn: tl.tensor,
    stride_vb: tl.tensor, stride_vh: tl.tensor, stride_vn: tl.tensor,
    stride_ob: tl.tensor, stride_oh: tl.tensor, stride_on: tl.tensor,
    h: tl.tensor, group: tl.tensor, n: tl.tensor, m: tl.tensor, blocks: tl.tensor,
    pattern_b: tl.tensor, pattern_h: tl.tensor, scale: tl.tensor,
    W: tl.constexpr, D: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr,
    SIZE_Q: tl.constexpr, SIZE_K: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, HAS_KEEP: tl.constexpr,
    HAS_ORDER: tl.constexpr, SHORT: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr,
) -> None:  # fmt: skip
    """(OUT, LSE) of QUERIES queries; grid (blocks x parts of a block, batch x heads)."""
    PARTS: tl.constexpr = SIZE_Q // QUERIES
    number, bh = tl.program_id(0), tl.program_id(1)
    b, head = (bh // h).to(tl.int64), (bh % h).to(tl.int64)
    row = (b % pattern_b * pattern_h + head % pattern_h) * blocks
    block = tl.load(ORDER + row + number // PARTS)
    queries = number % PARTS * QUERIES + tl.arange(0, QUERIES)
    i = block * SIZE_Q + queries
    mine = i < n
    src = tl.load(ORDER_Q + i, mask=mine, other=0) if HAS_ORDER else i
    K += b * stride_kb + head // group * stride_kh
    V += b * stride_vb + head // group * stride_vh
    KEEP += b * m
    q0, q1 = load_rows(Q + b * stride_qb + head * stride_qh, src, stride_qn, mine, W0, W1, W, True)
    sum0, sum1 = zeros(QUERIES, D0, D1)
    top, total = tl.full([QUERIES], float("-inf"), tl.float32), tl.zeros([QUERIES], tl.float32)
    span = SPANS + (row + block) * 3
    start, full, mixed = tl.load(span), tl.load(span + 1), tl.load(span + 2)
    sum0, sum1, top, total = walk(
        q0, q1, sum0, sum1, top, total, K, V, KEEP, ORDER_K, BITS, COLS + start, WHICH + start, full, queries, m,
        stride_kn, stride_vn, scale * LOG2E, W, D, W0, W1, D0, D1, SIZE_Q, SIZE_K, KEYS, False, HAS_KEEP, HAS_ORDER,
        SHORT, PRECISION, STAGES,
    )  # fmt: skip
    start += full
    sum0, sum1, top, total = walk(
        q0, q1, sum0, sum1, top, total, K, V, KEEP, ORDER_K, BITS, COLS + start, WHICH + start, mixed, queries, m,
        stride_kn, stride_vn, scale * LOG2E, W, D, W0, W1, D0, D1, SIZE_Q, SIZE_K, KEYS, True, HAS_KEEP, HAS_ORDER,
        SHORT, PRECISION, STAGES,
    )  # fmt: skip
    some = total > 0
    sum0, sum1 = times_rows(sum0, sum1, 1.0 / tl.where(some, total, 1.0), D1)
    OUT += b * stride_ob + head * stride_oh
    store_rows(OUT, src, stride_on, mine, sum0, sum1, D0, D1, D)
    lse = tl.where(some, (top + tl.log2(tl.where(some, total, 1.0))) / LOG2E, float("-inf"))
    tl.store(LSE + bh.to(tl.int64) * n + src, lse, mask=mine)
