"""A cache in pages that knows the mean key of each, so that a new token reads the best pages and no others."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from saccade.core.checks import check_whole

Heads = Float[Tensor, "b hk n d"]


class PagedCache:
    """Keys and values of one layer, `page` tokens a page; `attend` reads `pages` of them and the newest one.

    The pages of a key head are those whose mean key scores highest with the mean of its queries. A text of no more
    pages than that is read whole.
    Raises ValueError for sizes below 1.
    """

    def __init__(self, k: Heads, v: Heads, *, page: int = 16, pages: int = 64) -> None:
        check_whole(1, page=page, pages=pages)
        self.page, self.pages, self.tokens = page, pages, 0
        self._k, self._v = (torch.empty(*x.shape[:2], 0, x.shape[3], dtype=x.dtype, device=x.device) for x in (k, v))
        self._sums = torch.empty(*k.shape[:2], 0, k.shape[3], dtype=k.dtype, device=k.device)
        self.append(k, v)

    @property
    def k(self) -> Heads:
        """All keys."""
        return self._k[:, :, : self.tokens]

    @property
    def v(self) -> Heads:
        """All values."""
        return self._v[:, :, : self.tokens]

    def append(self, k: Heads, v: Heads) -> None:
        """More tokens at the end; room grows by doubling."""
        start, self.tokens = self.tokens, self.tokens + k.shape[2]
        self._grow()
        self._k[:, :, start : self.tokens], self._v[:, :, start : self.tokens] = k, v
        at = torch.arange(start, self.tokens, device=k.device) // self.page
        self._sums.index_add_(2, at, k)

    def attend(self, q: Float[Tensor, "b h 1 d"]) -> Float[Tensor, "b h 1 d"]:
        """What one new token of every row gets; its own key and value are the last ones of the cache."""
        count = -(-self.tokens // self.page)
        if count <= self.pages + 1:
            return F.scaled_dot_product_attention(q, self.k, self.v, enable_gqa=True)
        b, hk = self._k.shape[:2]
        mean_q = q[:, :, 0].unflatten(1, (hk, -1)).mean(2)
        scores = (self._sums[:, :, : count - 1] @ mean_q[..., None]).squeeze(-1)
        newest = torch.full((b, hk, 1), count - 1, device=q.device)
        chosen = torch.cat((scores.topk(self.pages, sorted=False).indices, newest), dim=-1)
        k, v = (self._picked(x, chosen) for x in (self._k, self._v))
        mask = self._there(chosen).repeat_interleave(q.shape[1] // hk, dim=1)[:, :, None]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)

    def _picked(self, x: Tensor, chosen: Tensor) -> Tensor:
        by_page = x.unflatten(2, (-1, self.page)).flatten(0, 1)
        rows = torch.arange(len(by_page), device=x.device)[:, None]
        return by_page[rows, chosen.flatten(0, 1)].flatten(1, 2).unflatten(0, x.shape[:2])

    def _there(self, chosen: Tensor) -> Tensor:
        """Which of the chosen tokens are written already."""
        at = chosen[..., None] * self.page + torch.arange(self.page, device=chosen.device)
        return (at < self.tokens).flatten(2)

    def _grow(self) -> None:
        room = self._k.shape[2]
        if self.tokens <= room:
            return
        wanted = -(-max(self.tokens, 2 * room) // self.page) * self.page
        self._k, self._v = (F.pad(x, (0, 0, 0, wanted - room)) for x in (self._k, self._v))
        self._sums = F.pad(self._sums, (0, 0, 0, wanted // self.page - self._sums.shape[2]))
