"""Tokens of a denoiser drawn towards features of the clean picture while it is trained (REPA).

    loss = - weight mean cos(projector(tokens after one block), features)

Source: Yu et al., "Representation Alignment for Generation" (2025); the weight and sizes are E-MMDiT's (2025).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.models.architecture import Prediction


def projector(width: int, features: int = 768, *, hidden: int = 2048) -> nn.Sequential:
    """Three layers from a token to a feature vector."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, features)
    )


def misalignment(projected: Float[Tensor, "b n d"], features: Float[Tensor, "b n d"]) -> Float[Tensor, ""]:
    """Minus the mean cosine of each token with its features."""
    return -F.cosine_similarity(projected, features, dim=-1).mean()


class Aligned(nn.Module):
    """A model in training, answering `forward(x, t, condition, features)` with the further loss `alignment`.

    block    name of the submodule whose tokens are aligned, such as "blocks.0.3"; they come first in its answer
    width    of those tokens
    sizes    of the feature vectors, one for each kind of features; their losses add up
    Raises ValueError for a block there is not.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        block: str,
        width: int,
        sizes: Sequence[int] = (768,),
        weight: float = 0.5,
        hidden: int = 2048,
    ) -> None:
        super().__init__()
        if block not in dict(model.named_modules()):
            raise ValueError(f"block='{block}' names no submodule of {type(model).__name__}; give one as 'blocks.0'")
        self.model, self.block, self.weight = model, block, weight
        self.projectors = nn.ModuleList(projector(width, size, hidden=hidden) for size in sizes)

    def forward(
        self, x: Tensor, t: Float[Tensor, " b"], condition: Tensor, features: Sequence[Float[Tensor, "b n _"]]
    ) -> Prediction:
        """The model's prediction; `features`: a token's vector for each place of the picture, of each kind."""
        seen: list[Tensor] = []
        watched = self.model.get_submodule(self.block)
        handle = watched.register_forward_hook(lambda _, __, out: seen.append(out[0]))
        try:
            out, losses = self.model(x, t, condition)
        finally:
            handle.remove()
        return Prediction(out, {**losses, "alignment": self.weight * self._loss(seen[0], features)})

    def _loss(self, tokens: Tensor, features: Sequence[Tensor]) -> Float[Tensor, ""]:
        if len(features) != len(self.projectors) or any(each.shape[:2] != tokens.shape[:2] for each in features):
            raise ValueError(
                f"features of shapes {[tuple(each.shape) for each in features]} must be {len(self.projectors)}, each "
                f"({tokens.shape[0]}, {tokens.shape[1]}, size): one vector for each token of {self.block}"
            )
        pairs = zip(self.projectors, features, strict=True)
        return torch.stack([misalignment(project(tokens), each) for project, each in pairs]).sum()
