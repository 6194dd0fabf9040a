"""A state of any size as one layer of a cache of transformers, beside the keys and values of other layers."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer


class StateLayer(CacheLayerMixin):
    """The tensors of an operator's state, and how many tokens went by."""

    is_sliding = False

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.kept: dict[str, Tensor] = {}
        self.shared: frozenset[str] = frozenset()
        self.tokens = 0

    def put(self, kept: dict[str, Tensor], tokens: int, shared: frozenset[str]) -> None:
        """What stands for all tokens after `tokens` more; `shared`: names of what has no row for each text."""
        self.kept, self.shared, self.tokens = kept, shared, self.tokens + tokens

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Raises RuntimeError: there are no keys to make room for."""
        raise RuntimeError("a layer without attention keeps no keys; its module fills the state")

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Raises RuntimeError: a host's own attention came upon the cache of a deconstructed model."""
        raise RuntimeError("this cache was filled by a deconstructed layer; begin a new one for another model")

    def get_seq_length(self) -> int:
        return self.tokens

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.tokens + query_length, 0

    def get_max_length(self) -> int:
        return -1

    def reset(self) -> None:
        self.kept, self.tokens = {}, 0

    def crop(self, tokens_to_remove: int) -> None:
        """Raises ValueError: a sum cannot forget its last terms."""
        raise ValueError("the state of a deconstructed layer cannot be cropped; generate without an assistant")

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        self._change(lambda each: each.index_select(0, indices.to(each.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._change(lambda each: each.repeat_interleave(repeats, dim=0))

    def _change(self, change: Callable[[Tensor], Tensor]) -> None:
        self.kept = {name: each if name in self.shared else change(each) for name, each in self.kept.items()}


def state_layer(cache: Cache, index: int) -> StateLayer:
    """The layer of that number, made where there is none yet.

    Raises ValueError for a cache of another kind, or one filled by another model.
    """
    while len(cache.layers) <= index:
        cache.layers.append(StateLayer())
    found = cache.layers[index]
    if isinstance(found, StateLayer):
        return found
    if type(found) is not DynamicLayer or found.get_seq_length():
        raise ValueError(
            f"layer {index} of past_key_values is a {type(found).__name__} of {cache.get_seq_length(index)} tokens; a "
            "deconstructed model begins with an empty DynamicCache"
        )
    cache.layers[index] = made = StateLayer()
    return made
