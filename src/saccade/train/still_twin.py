"""A causal video autoencoder on single frames, by plain convolutions of the same weights.

Before a first frame a causal convolution sees zeros, so of its kernel only the last slice in time matters: the same
numbers for a fraction of the work.
"""

import copy

from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, WanCausalConv3d
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class LastSlice(nn.Module):
    """What a causal convolution makes of one frame that nothing came before."""

    def __init__(self, conv: WanCausalConv3d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Float[Tensor, "b c 1 h w"], cache_x: None = None) -> Float[Tensor, "b d 1 y x"]:
        conv, around = self.conv, [int(side) for side in self.conv._padding[:4]]  # left, right, top, bottom
        return F.conv2d(F.pad(x[:, :, 0], around), conv.weight[:, :, -1], conv.bias, conv.stride[1:])[:, :, None]


def still_twin(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Another autoencoder with the very same parameters, for videos of one frame."""
    twin = copy.deepcopy(vae, {id(p): p for p in (*vae.parameters(), *vae.buffers())})
    for parent in [*twin.modules()]:
        for name, child in [*parent.named_children()]:
            if isinstance(child, WanCausalConv3d):
                setattr(parent, name, LastSlice(child))
    return twin
