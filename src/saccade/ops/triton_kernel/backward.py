"""The backward kernels: gradients of queries by the forward's lists, of keys and values by the transposed ones.

dS = P (dO V^T + dlse - rowsum(dO O)), with P made again from lse. Every gradient has one program that sums it, so
nothing is added atomically and a repeated call gives the same bits. `attend_queries` writes
delta = rowsum(dO O) - dlse; `attend_keys`, launched after it, reads it.
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
    zeros,
)


@triton.jit
def load_lse(LSE: tl.tensor, at: tl.tensor, real: tl.tensor) -> tl.tensor:
    """In powers of two; inf, at which every weight is 0, for queries without a key and for those that are not real."""
    lse = tl.load(LSE + at, mask=real, other=float("inf"))
    return tl.where(lse == float("-inf"), float("inf"), lse) * LOG2E


@triton.jit
def walk_keys(
    q0: tl.tensor, q1: tl.tensor, do0: tl.tensor, do1: tl.tensor, lse: tl.tensor, delta: tl.tensor,
    dq0: tl.tensor, dq1: tl.tensor, K: tl.tensor, V: tl.tensor, KEEP: tl.tensor, ORDER_K: tl.tensor, BITS: tl.tensor,
    COLS: tl.tensor, WHICH: tl.tensor, count: tl.tensor, queries: tl.tensor, m: tl.tensor,
    stride_k: tl.tensor, stride_v: tl.tensor, scale2: tl.tensor,
    W: tl.constexpr, D: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr,
    SIZE_Q: tl.constexpr, SIZE_K: tl.constexpr, KEYS: tl.constexpr, MIXED: tl.constexpr, HAS_KEEP: tl.constexpr,
    HAS_ORDER: tl.constexpr, SHORT: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """Add dS K over `count` blocks of keys."""
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
        p = tl.exp2(rows_times_rows(q0, q1, k0, k1, W1, PRECISION) * scale2 - lse[:, None])
        if MIXED:
            words = BITS + (tile * SIZE_Q + queries) * WORDS + turn % TURNS * (KEYS // 32)
            p = tl.where(open_pairs(words, KEYS, False), p, 0.0)
        if HAS_KEEP:
            p = tl.where((tl.load(KEEP + at, mask=real, other=0) != 0)[None, :], p, 0.0)
        v0, v1 = load_rows(V, at, stride_v, real, D0, D1, D, CHECK)
        ds = p * (rows_times_rows(do0, do1, v0, v1, D1, PRECISION) - delta[:, None])
        dq0, dq1 = add_product(dq0, dq1, ds, k0, k1, W1, PRECISION)
        ahead = (turn + 1) // TURNS
        block = tl.load(COLS + ahead, mask=ahead < count, other=0)
        if MIXED:
            tile = tl.load(WHICH + ahead, mask=ahead < count, other=0)
    return dq0, dq1


@triton.jit
def attend_queries(
    Q: tl.tensor, K: tl.tensor, V: tl.tensor, DO: tl.tensor, OUT: tl.tensor, LSE: tl.tensor, DLSE: tl.tensor,
    DELTA: tl.tensor, DQ: tl.tensor, KEEP: tl.tensor,
    ORDER: tl.tensor, SPANS: tl.tensor, COLS: tl.tensor, WHICH: tl.tensor, BITS: tl.tensor,
    ORDER_Q: tl.tensor, ORDER_K: tl.tensor,
    stride_qb: tl.tensor, stride_qh: tl.tensor, stride_qn: tl.tensor,
    stride_kb: tl.tensor, stride_kh: tl.tensor, stride_kn: tl.tensor,
    stride_vb: tl.tensor, stride_vh: tl.tensor, stride_vn: tl.tensor,
    stride_ob: tl.tensor, stride_oh: tl.tensor, stride_on: tl.tensor,
    stride_gb: tl.tensor, stride_gh: tl.tensor, stride_gn: tl.tensor,
    stride_xb: tl.tensor, stride_xh: tl.tensor, stride_xn: tl.tensor,
    h: tl.tensor, group: tl.tensor, n: tl.tensor, m: tl.tensor, blocks: tl.tensor,
    pattern_b: tl.tensor, pattern_h: tl.tensor, scale: tl.tensor,
    W: tl.constexpr, D: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr,
    SIZE_Q: tl.constexpr, SIZE_K: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, HAS_KEEP: tl.constexpr,
    HAS_ORDER: tl.constexpr, SHORT: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr,
) -> None:  # fmt: skip
    """DQ and DELTA of QUERIES queries; grid (blocks x parts of a block, batch x heads). Strides g: of DO, x: of DQ."""
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
    do0, do1 = load_rows(DO + b * stride_gb + head * stride_gh, src, stride_gn, mine, D0, D1, D, True)
    o0, o1 = load_rows(OUT + b * stride_ob + head * stride_oh, src, stride_on, mine, D0, D1, D, True)
    at = bh.to(tl.int64) * n + src
    lse = load_lse(LSE, at, mine)
    delta = tl.sum(do0.to(tl.float32) * o0.to(tl.float32), 1) - tl.load(DLSE + at, mask=mine, other=0.0)
    if D1:
        delta += tl.sum(do1.to(tl.float32) * o1.to(tl.float32), 1)
    delta = tl.where(lse == float("inf"), 0.0, delta)
    tl.store(DELTA + at, delta, mask=mine)
    dq0, dq1 = zeros(QUERIES, W0, W1)
    span = SPANS + (row + block) * 3
    start, full, mixed = tl.load(span), tl.load(span + 1), tl.load(span + 2)
    dq0, dq1 = walk_keys(
        q0, q1, do0, do1, lse, delta, dq0, dq1, K, V, KEEP, ORDER_K, BITS, COLS + start, WHICH + start, full, queries,
        m, stride_kn, stride_vn, scale * LOG2E, W, D, W0, W1, D0, D1, SIZE_Q, SIZE_K, KEYS, False, HAS_KEEP, HAS_ORDER,
        SHORT, PRECISION, STAGES,
    )  # fmt: skip
    start += full
    dq0, dq1 = walk_keys(
        q0, q1, do0, do1, lse, delta, dq0, dq1, K, V, KEEP, ORDER_K, BITS, COLS + start, WHICH + start, mixed, queries,
        m, stride_kn, stride_vn, scale * LOG2E, W, D, W0, W1, D0, D1, SIZE_Q, SIZE_K, KEYS, True, HAS_KEEP, HAS_ORDER,
        SHORT, PRECISION, STAGES,
    )  # fmt: skip
    store_rows(DQ + b * stride_xb + head * stride_xh, src, stride_xn, mine, dq0 * scale, dq1 * scale, W0, W1, W)


@triton.jit
def walk_queries(
    k0: tl.tensor, k1: tl.tensor, v0: tl.tensor, v1: tl.tensor, kept: tl.tensor,
    dk0: tl.tensor, dk1: tl.tensor, dv0: tl.tensor, dv1: tl.tensor,
    Q: tl.tensor, DO: tl.tensor, LSE: tl.tensor, DELTA: tl.tensor, ORDER_Q: tl.tensor, BITS: tl.tensor,
    COLS: tl.tensor, WHICH: tl.tensor, count: tl.tensor, n: tl.tensor, stride_q: tl.tensor, stride_g: tl.tensor,
    scale2: tl.tensor, W: tl.constexpr, D: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, D0: tl.constexpr,
    D1: tl.constexpr, SIZE_Q: tl.constexpr, SIZE_K: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
    MIXED: tl.constexpr, HAS_KEEP: tl.constexpr, HAS_ORDER: tl.constexpr, SHORT: tl.constexpr,
    PRECISION: tl.constexpr, STAGES: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """Add dS^T Q and P^T dO over `count` blocks of queries. BITS: the first word of this program's keys."""
    TURNS: tl.constexpr = SIZE_Q // QUERIES
    WORDS: tl.constexpr = SIZE_K // 32
    block = tl.load(COLS, mask=count > 0, other=0)
    tile = tl.load(WHICH, mask=count > 0, other=0) if MIXED else block
    for turn in tl.range(0, count * TURNS, num_stages=STAGES):
        queries = turn % TURNS * QUERIES + tl.arange(0, QUERIES)
        i = block * SIZE_Q + queries
        real = i < n
        at = tl.load(ORDER_Q + i, mask=real, other=0) if HAS_ORDER else i
        q0, q1 = load_rows(Q, at, stride_q, real, W0, W1, W, SHORT)
        lse, delta = load_lse(LSE, at, real), tl.load(DELTA + at, mask=real, other=0.0)
        p = tl.exp2(rows_times_rows(k0, k1, q0, q1, W1, PRECISION) * scale2 - lse[None, :])
        if MIXED:
            p = tl.where(open_pairs(BITS + (tile * SIZE_Q + queries) * WORDS, KEYS, True), p, 0.0)
        if HAS_KEEP:
            p = tl.where(kept[:, None], p, 0.0)
        do0, do1 = load_rows(DO, at, stride_g, real, D0, D1, D, SHORT)
        dv0, dv1 = add_product(dv0, dv1, p, do0, do1, D1, PRECISION)
        ds = p * (rows_times_rows(v0, v1, do0, do1, D1, PRECISION) - delta[None, :])
        dk0, dk1 = add_product(dk0, dk1, ds, q0, q1, W1, PRECISION)
        ahead = (turn + 1) // TURNS
        block = tl.load(COLS + ahead, mask=ahead < count, other=0)
        if MIXED:
            tile = tl.load(WHICH + ahead, mask=ahead < count, other=0)
    return dk0, dk1, dv0, dv1


@triton.jit
def attend_keys(
    Q: tl.tensor, K: tl.tensor, V: tl.tensor, DO: tl.tensor, LSE: tl.tensor, DELTA: tl.tensor,
    DK: tl.tensor, DV: tl.tensor, KEEP: tl.tensor,
    ORDER: tl.tensor, SPANS: tl.tensor, COLS: tl.tensor, WHICH: tl.tensor, BITS: tl.tensor,
    ORDER_Q: tl.tensor, ORDER_K: tl.tensor,
    stride_qb: tl.tensor, stride_qh: tl.tensor, stride_qn: tl.tensor,
    stride_kb: tl.tensor, stride_kh: tl.tensor, stride_kn: tl.tensor,
    stride_vb: tl.tensor, stride_vh: tl.tensor, stride_vn: tl.tensor,
    stride_gb: tl.tensor, stride_gh: tl.tensor, stride_gn: tl.tensor,
    stride_xb: tl.tensor, stride_xh: tl.tensor, stride_xn: tl.tensor,
    stride_yb: tl.tensor, stride_yh: tl.tensor, stride_yn: tl.tensor,
    hk: tl.tensor, group: tl.tensor, n: tl.tensor, m: tl.tensor, blocks: tl.tensor,
    pattern_b: tl.tensor, pattern_h: tl.tensor, scale: tl.tensor,
    W: tl.constexpr, D: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr,
    SIZE_Q: tl.constexpr, SIZE_K: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, HAS_KEEP: tl.constexpr,
    HAS_ORDER: tl.constexpr, SHORT: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr,
) -> None:  # fmt: skip
    """(DK, DV) of KEYS keys; grid (blocks x parts of a block, batch x key heads). Strides g: DO, x: DK, y: DV.

    Blocks come in the order of the first query head of the group, then each head's lists are walked.
    """
    PARTS: tl.constexpr = SIZE_K // KEYS
    number, bh = tl.program_id(0), tl.program_id(1)
    b, head = (bh // hk).to(tl.int64), (bh % hk).to(tl.int64)
    first = (b % pattern_b * pattern_h + head * group % pattern_h) * blocks
    block = tl.load(ORDER + first + number // PARTS)
    part = number % PARTS
    j = block * SIZE_K + part * KEYS + tl.arange(0, KEYS)
    mine = j < m
    src = tl.load(ORDER_K + j, mask=mine, other=0) if HAS_ORDER else j
    k0, k1 = load_rows(K + b * stride_kb + head * stride_kh, src, stride_kn, mine, W0, W1, W, True)
    v0, v1 = load_rows(V + b * stride_vb + head * stride_vh, src, stride_vn, mine, D0, D1, D, True)
    kept = tl.load(KEEP + b * m + src, mask=mine, other=0) != 0 if HAS_KEEP else mine
    dk0, dk1 = zeros(KEYS, W0, W1)
    dv0, dv1 = zeros(KEYS, D0, D1)
    BITS += part * (KEYS // 32)
    for each in range(group):
        one = head * group + each
        row = (b * hk * group + one) * n
        span = SPANS + ((b % pattern_b * pattern_h + one % pattern_h) * blocks + block) * 3
        start, full, mixed = tl.load(span), tl.load(span + 1), tl.load(span + 2)
        dk0, dk1, dv0, dv1 = walk_queries(
            k0, k1, v0, v1, kept, dk0, dk1, dv0, dv1, Q + b * stride_qb + one * stride_qh,
            DO + b * stride_gb + one * stride_gh, LSE + row, DELTA + row, ORDER_Q, BITS, COLS + start, WHICH + start,
            full, n, stride_qn, stride_gn, scale * LOG2E, W, D, W0, W1, D0, D1, SIZE_Q, SIZE_K, QUERIES, KEYS, False,
            HAS_KEEP, HAS_ORDER, SHORT, PRECISION, STAGES,
        )  # fmt: skip
        start += full
        dk0, dk1, dv0, dv1 = walk_queries(
            k0, k1, v0, v1, kept, dk0, dk1, dv0, dv1, Q + b * stride_qb + one * stride_qh,
            DO + b * stride_gb + one * stride_gh, LSE + row, DELTA + row, ORDER_Q, BITS, COLS + start, WHICH + start,
            mixed, n, stride_qn, stride_gn, scale * LOG2E, W, D, W0, W1, D0, D1, SIZE_Q, SIZE_K, QUERIES, KEYS, True,
            HAS_KEEP, HAS_ORDER, SHORT, PRECISION, STAGES,
        )  # fmt: skip
    store_rows(DK + b * stride_xb + head * stride_xh, src, stride_xn, mine, dk0 * scale, dk1 * scale, W0, W1, W)
    store_rows(DV + b * stride_yb + head * stride_yh, src, stride_yn, mine, dv0, dv1, D0, D1, D)
