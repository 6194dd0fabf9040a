"""One global batch, drawn alike by every process, cut into the rows that each of them takes."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any


def split_batch(
    batch: Any, *, accumulate: int = 1, process: int = 0, processes: int = 1, shared: Collection[str] = ()
) -> list[Any]:
    """The `accumulate` parts, of equal numbers of rows, that `process` of `processes` works through.

    `batch` is a tensor or a nest of mappings of tensors, whose rows are examples, but for the entries named in
    `shared`: those are whole in every part. A batch that need not be cut may be anything.
    Raises ValueError for rows that cannot be shared out evenly and for entries that differ in them.
    """
    number = accumulate * processes
    if number == 1:
        return [batch]
    rows = _rows(batch, shared)
    if rows % number:
        raise ValueError(
            f"a batch of {rows} rows cannot be shared out evenly among processes={processes} x accumulate={accumulate};"
            f" make it a multiple of {number}"
        )
    size = rows // number
    starts = ((part * processes + process) * size for part in range(accumulate))
    return [_cut(batch, slice(start, start + size), shared) for start in starts]


def _rows(batch: Any, shared: Collection[str]) -> int:
    counts = dict(_counts("batch", batch, shared))
    if not counts:
        raise ValueError("the batch has no entry that can be cut; let `shared` name fewer")
    (first, rows), *others = counts.items()
    for name, count in others:
        if count != rows:
            raise ValueError(
                f"entry '{name}' of the batch has {count} rows where '{first}' has {rows}; "
                "if every process needs it whole, name it in `shared` of the task"
            )
    return rows


def _counts(name: str, value: Any, shared: Collection[str]) -> Iterator[tuple[str, int]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            if key not in shared:
                yield from _counts(key, each, shared)
    else:
        yield name, len(value)


def _cut(value: Any, rows: slice, shared: Collection[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: each if key in shared else _cut(each, rows, shared) for key, each in value.items()}
    return value[rows]
