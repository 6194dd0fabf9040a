"""Tiny models whose tokens are packed or padded into sequences of their own making."""

from typing import Any

import torch
from torch import Tensor, nn

from tests.hosts.host import Host

SHAPE = (2, 2, 3)  # of the video in tokens: its latents are twice as high and as wide


def cosmos3(sound: int = 4, action: int = 0, given: tuple[int, ...] = ()) -> tuple[nn.Module, dict[str, Any]]:
    """Five words, a video of which some frames are given, sound and actions."""
    from diffusers import Cosmos3OmniTransformer

    model = Cosmos3OmniTransformer(
        head_dim=16, hidden_size=32, intermediate_size=32, latent_channel=4, num_attention_heads=4, patch_latent_dim=16,
        num_hidden_layers=2, num_key_value_heads=2, vocab_size=40, rope_axes_dim=(4, 2, 2), sound_dim=6,
        sound_gen=sound > 0, action_dim=3, action_gen=action > 0, num_embodiment_domains=2,
    )  # fmt: skip
    inputs = {"input_ids": torch.randint(1, 40, (5,)), "text_indexes": torch.arange(5), "und_len": 5}
    inputs |= part("vision", 5, torch.randn(1, 4, 2, 4, 6), SHAPE, [i for i in range(2) if i not in given])
    if sound:
        inputs |= part("sound", 17, torch.randn(6, sound), (sound, 1, 1), list(range(sound)))
    if action:
        inputs |= part("action", 17, torch.randn(action, 3), (action, 1, 1), list(range(1, action)))
        inputs["action_domain_ids"] = [torch.tensor(1)]
    n = 17 + sound + action
    return model, {**inputs, "position_ids": torch.arange(n).expand(3, -1), "sequence_length": n, "return_dict": False}


def part(name: str, start: int, tokens: Tensor, shape: tuple[int, int, int], noisy: list[int]) -> dict[str, Any]:
    """The arguments of one modality, as Cosmos3OmniPipeline packs it."""
    frame = shape[1] * shape[2]
    places = torch.arange(start, start + shape[0] * frame)
    made = places.unflatten(0, (shape[0], frame))[noisy].flatten()
    return {
        f"{name}_tokens": [tokens],
        f"{name}_token_shapes": [shape],
        f"{name}_sequence_indexes": places,
        f"{name}_mse_loss_indexes": made,
        f"{name}_timesteps": torch.full((len(made),), 500.0),
        f"{name}_noisy_frame_indexes": [torch.tensor(noisy, dtype=torch.long)],
    }


def cosmos3_action() -> tuple[nn.Module, dict[str, Any]]:
    """A first frame and a first action are given; what follows is made."""
    return cosmos3(sound=0, action=3, given=(0,))


HOSTS = (
    Host("cosmos3", cosmos3, "image 12 (2x2x3) | sound 4 (4x1x1)"),
    Host("cosmos3_action", cosmos3_action, "image 12 (2x2x3) | action 3 (3x1x1)"),
)
