"""Pieces of the Triton kernels: rows in two parts, products of rows, the bits of a token map.

A matrix of rows has one or two parts of columns, x0 and x1, so that 80 columns cost 64 + 16 and not 128; where one part
does, x1 is x0 again and never read.
"""
# Triton compiles these functions from their source, by rules of its own:
# pyright: reportArgumentType=false, reportReturnType=false, reportGeneralTypeIssues=false
# pyright: reportAttributeAccessIssue=false, reportAssignmentType=false, reportCallIssue=false

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)  # scores are kept in powers of two


@triton.jit
def load_part(
    base: tl.tensor, rows: tl.tensor, stride: tl.tensor, real: tl.tensor,
    FIRST: tl.constexpr, COLUMNS: tl.constexpr, LAST: tl.constexpr, CHECK: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Columns FIRST to FIRST + COLUMNS of some rows: 0 from column LAST on and, if CHECK, in rows that are not real."""
    columns = FIRST + tl.arange(0, COLUMNS)
    at = base + rows[:, None] * stride + columns[None, :]
    if FIRST + COLUMNS > LAST:
        if CHECK:
            return tl.load(at, mask=real[:, None] & (columns < LAST)[None, :], other=0.0)
        return tl.load(at, mask=(columns < LAST)[None, :], other=0.0)
    if CHECK:
        return tl.load(at, mask=real[:, None], other=0.0)
    return tl.load(at)


@triton.jit
def load_rows(
    base: tl.tensor, rows: tl.tensor, stride: tl.tensor, real: tl.tensor,
    PART0: tl.constexpr, PART1: tl.constexpr, LAST: tl.constexpr, CHECK: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """Both parts of some rows."""
    x0 = load_part(base, rows, stride, real, 0, PART0, LAST, CHECK)
    x1 = load_part(base, rows, stride, real, PART0, PART1, LAST, CHECK) if PART1 else x0
    return x0, x1


@triton.jit
def store_part(
    base: tl.tensor, rows: tl.tensor, stride: tl.tensor, real: tl.tensor, x: tl.tensor,
    FIRST: tl.constexpr, COLUMNS: tl.constexpr, LAST: tl.constexpr,
) -> None:  # fmt: skip
    """Write columns FIRST to FIRST + COLUMNS of the real rows, up to column LAST."""
    columns = FIRST + tl.arange(0, COLUMNS)
    at = base + rows[:, None] * stride + columns[None, :]
    tl.store(at, x.to(base.dtype.element_ty), mask=real[:, None] & (columns < LAST)[None, :])


@triton.jit
def store_rows(
    base: tl.tensor, rows: tl.tensor, stride: tl.tensor, real: tl.tensor, x0: tl.tensor, x1: tl.tensor,
    PART0: tl.constexpr, PART1: tl.constexpr, LAST: tl.constexpr,
) -> None:  # fmt: skip
    """Write both parts of the real rows."""
    store_part(base, rows, stride, real, x0, 0, PART0, LAST)
    if PART1:
        store_part(base, rows, stride, real, x1, PART0, PART1, LAST)


@triton.jit
def rows_times_rows(
    a0: tl.tensor, a1: tl.tensor, b0: tl.tensor, b1: tl.tensor, PART1: tl.constexpr, PRECISION: tl.constexpr
) -> tl.tensor:
    """a b^T over both parts."""
    product = tl.dot(a0, tl.trans(b0), input_precision=PRECISION)
    if PART1:
        product = tl.dot(a1, tl.trans(b1), product, input_precision=PRECISION)
    return product


@triton.jit
def add_product(
    sum0: tl.tensor, sum1: tl.tensor, p: tl.tensor, x0: tl.tensor, x1: tl.tensor,
    PART1: tl.constexpr, PRECISION: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """sum + p x, with p in the type of x."""
    p = p.to(x0.dtype)
    sum0 = tl.dot(p, x0, sum0, input_precision=PRECISION)
    if PART1:
        sum1 = tl.dot(p, x1, sum1, input_precision=PRECISION)
    return sum0, sum1


@triton.jit
def times_rows(sum0: tl.tensor, sum1: tl.tensor, factor: tl.tensor, PART1: tl.constexpr) -> tl.tuple:
    """Each row times its factor."""
    return sum0 * factor[:, None], sum1 * factor[:, None] if PART1 else sum1


@triton.jit
def zeros(ROWS: tl.constexpr, PART0: tl.constexpr, PART1: tl.constexpr) -> tl.tuple:
    """A sum of both parts to begin with, in float32."""
    return tl.zeros([ROWS, PART0], tl.float32), tl.zeros([ROWS, PART1 if PART1 else 16], tl.float32)


@triton.jit
def open_pairs(words: tl.tensor, KEYS: tl.constexpr, KEYS_FIRST: tl.constexpr) -> tl.tensor:
    """Which of KEYS keys each query sees, (queries, keys), or (keys, queries) if KEYS_FIRST.

    words  where each query's first word of bits lies; one is loaded for 32 keys, as few loads as may be
    """
    axis: tl.constexpr = 0 if KEYS_FIRST else 1
    key = tl.expand_dims(tl.arange(0, KEYS), 1 - axis)
    word = tl.expand_dims(tl.load(words), axis)
    for group in tl.static_range(1, KEYS // 32):
        word = tl.where(key // 32 == group, tl.expand_dims(tl.load(words + group), axis), word)
    return ((word >> (key % 32)) & 1) != 0
