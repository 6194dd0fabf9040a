"""Nearest captions, or videos, by the inner product of normalised vectors; exact, by scikit-learn."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float

from saccade.core.checks import check_whole

Vectors = Float[np.ndarray, "n d"]
Embed = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True)
class Hit:
    """One neighbour: its name, and the inner product with the query, 1 for the same direction."""

    name: str
    score: float


class VideoIndex:
    """Vectors by name, searched exactly.

    embed  captions, or videos, to vectors (n d), an array or a tensor; None: `search` is given vectors
    Raises ImportError without scikit-learn; ValueError for vectors that are not as many as the names, or zero, and for
    a name that comes twice.
    """

    def __init__(self, vectors: Any, names: Sequence[str], *, embed: Embed | None = None) -> None:
        self.vectors, self.names, self.embed = normalised(vectors), tuple(names), embed
        if len(self.vectors) != len(self.names):
            raise ValueError(f"{len(self.vectors)} vectors and {len(self.names)} names must be as many")
        if len({*self.names}) < len(self.names):
            twice = next(name for i, name in enumerate(self.names) if name in self.names[:i])
            raise ValueError(f"name '{twice}' comes twice; give each video a name of its own")
        self._nearest = _neighbours().fit(self.vectors)

    @classmethod
    def of(cls, items: Sequence[Any], names: Sequence[str], embed: Embed) -> Self:
        """An index of captions, or of whatever `embed` takes. Raises as `VideoIndex` does."""
        return cls(embed(items), names, embed=embed)

    def search(
        self, queries: Sequence[Any], k: int = 5, *, exclude: Sequence[Collection[str]] = ()
    ) -> list[tuple[Hit, ...]]:
        """The k best of each query, best first; fewer where there are no more.

        queries  what `embed` takes, or vectors (n d) where there is no `embed`
        exclude  for each query, names that are no answer: itself, where the bank holds the very video
        Raises ValueError for a number below 1, and exclusions that are not one collection a query.
        """
        check_whole(1, k=k)
        if exclude and (len(exclude) != len(queries) or any(isinstance(each, str) for each in exclude)):
            raise ValueError(
                f"exclude of {len(exclude)} entries must be a collection of names for each of {len(queries)} queries"
            )
        without = [frozenset(each) for each in exclude] or [frozenset[str]()] * len(queries)
        vectors = normalised(queries if self.embed is None else self.embed(queries))
        wanted = min(len(self.names), k + max(map(len, without), default=0))
        far, found = self._nearest.kneighbors(vectors, n_neighbors=wanted)
        return [
            _best((Hit(self.names[i], float(1 - d)) for d, i in sorted(zip(*row, strict=True))), k, gone)
            for row, gone in zip(zip(far.round(12), found, strict=True), without, strict=True)
        ]

    def save(self, file: str | Path) -> Path:
        """Vectors and names, without `embed`, as one `.npz`."""
        path = Path(file)
        with path.open("wb") as opened:
            np.savez(opened, vectors=self.vectors, names=np.array(self.names))
        return path

    @classmethod
    def load(cls, file: str | Path, *, embed: Embed | None = None) -> Self:
        """What `save` wrote. Raises FileNotFoundError where there is none, ValueError for another file."""
        with np.load(Path(file), allow_pickle=False) as stored:
            if {*stored} != {"vectors", "names"}:
                raise ValueError(f"{file} holds {', '.join(stored)}, no index; give what VideoIndex.save wrote")
            return cls(stored["vectors"], stored["names"].tolist(), embed=embed)


def normalised(vectors: Any) -> Vectors:
    """Of length 1, in double precision.

    Raises ValueError for what is no (n d), holds numbers that are not finite, or a vector of zeros.
    """
    array = vectors.detach().double().cpu().numpy() if isinstance(vectors, torch.Tensor) else vectors
    array = np.asarray(array, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"vectors of shape {array.shape} must be (items, channels); pool over words or frames first")
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        bad = int((~np.isfinite(lengths) | (lengths == 0)).argmax())
        raise ValueError(f"vector {bad} is zero or not finite, so it has no direction; embed something else")
    return array / lengths


def cls_embedder(model: Any, tokenizer: Any, *, max_tokens: int = 512) -> Embed:
    """Captions by the first token's state of an encoder of transformers, as gte-base-en-v1.5 is used."""

    @torch.no_grad()
    def embed(captions: Sequence[str]) -> Any:
        given = tokenizer(list(captions), padding=True, truncation=True, max_length=max_tokens, return_tensors="pt")
        return model(**given.to(model.device)).last_hidden_state[:, 0].float()

    return embed


def _best(hits: Any, k: int, gone: Collection[str]) -> tuple[Hit, ...]:
    return tuple([hit for hit in hits if hit.name not in gone][:k])


def _neighbours() -> Any:
    try:
        from sklearn.neighbors import NearestNeighbors
    except ImportError:
        raise ImportError("retrieval needs scikit-learn; install it by pip install 'saccade[retrieval]'") from None
    return NearestNeighbors(algorithm="brute", metric="cosine")
