"""What a verdict on a pair is a function of, so that blocks alike in it are looked at once.

A mask over places sees only the step from query to key: two pairs of blocks of the same shapes, the same step apart,
have the same token map wherever they lie.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

Alike = Callable[[Tensor, Tensor], Tensor]  # (numbers of query blocks, of key blocks) -> a number, equal where alike
ROOM = 1 << 60  # numbers stay below it


@dataclass(frozen=True, eq=False)
class Features:
    """The verdict on (batch row, head, query, key) depends on no more than these, and on batch row and head.

    q, k        the query's own features, and the key's
    at_q, at_k  coordinates, of which only the differences at_q[:, query] - at_k[:, key] count
    """

    q: Int[Tensor, "f n"]
    k: Int[Tensor, "g m"]
    at_q: Int[Tensor, "a n"]
    at_k: Int[Tensor, "a m"]

    def __add__(self, other: "Features") -> "Features":
        pairs = ((self.q, other.q), (self.k, other.k), (self.at_q, other.at_q), (self.at_k, other.at_k))
        return Features(*(torch.cat(pair) for pair in pairs))

    def alike(self, q: Int[Tensor, "Q s"], k: Int[Tensor, "K c"]) -> Alike:
        """Pairs of blocks given one number have one token map, position by position."""
        (class_q, from_q), (class_k, from_k) = _classes(self.q, self.at_q, q), _classes(self.k, self.at_k, k)

        def number(i: Int[Tensor, " p"], j: Int[Tensor, " p"]) -> Int[Tensor, " p"]:
            return _joined([class_q[i], class_k[j], *(a[i] - b[j] for a, b in zip(from_q, from_k, strict=True))])

        return number


def features(
    q: Tensor | None = None, k: Tensor | None = None, at_q: Tensor | None = None, at_k: Tensor | None = None,
    *, n: int, m: int,
) -> Features:  # fmt: skip
    """From what there is, each (n) or (rows n) of whole numbers or flags; n, m: how many queries and keys there are."""
    given = ((q, n), (k, m), (at_q, n), (at_k, m))
    return Features(*(torch.empty(0, size, dtype=torch.int64) if x is None else _listed(x) for x, size in given))


def _listed(x: Tensor) -> Int[Tensor, "f n"]:
    return x.reshape(-1, x.shape[-1]).to("cpu", torch.int64)


def _classes(own: Tensor, at: Tensor, block: Tensor) -> tuple[Int[Tensor, " B"], Int[Tensor, "a B"]]:
    """A number for each block's features, places counted from its first token, and where that token is."""
    block = block.cpu()
    first = at[:, block[:, :1]]
    rows = torch.cat((own[:, block], at[:, block] - first)).transpose(0, 1).flatten(1)
    return numbered(rows.to(torch.int32), {}), first[..., 0]


def numbered(rows: Tensor, known: dict[bytes, int]) -> Int[Tensor, " r"]:
    """The number of each row among the different ones met, `known` among them; new ones are added to it."""
    lines = rows.contiguous().view(torch.uint8).numpy() if rows.shape[1] else rows.numpy()
    return torch.tensor([known.setdefault(line.tobytes(), len(known)) for line in lines], dtype=torch.int64)


def _joined(parts: list[Int[Tensor, " p"]]) -> Int[Tensor, " p"]:
    """One number for each column, equal only where all parts are."""
    number, count = torch.zeros_like(parts[0]), 1
    for part in parts:
        low = int(part.min()) if len(part) else 0
        span = (int(part.max()) if len(part) else 0) - low + 1
        if count * span > ROOM:
            number = number.unique(return_inverse=True)[1]
            count = len(number)
        number, count = number * span + (part - low), count * span
    return number
