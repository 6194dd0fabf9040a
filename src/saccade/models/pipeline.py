"""A trained architecture as something to call: labels, words or a mapping of what conditions it in, pictures out.

>>> pipe = ArchitecturePipeline.from_pretrained("runs/dit/model")  # doctest: +SKIP
>>> pipe(torch.tensor([3, 7]), steps=50, guidance=2.0, generator=torch.Generator().manual_seed(0)).images[0]
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from saccade.core.checks import check_word
from saccade.data.pixels import check_finite, to_bytes
from saccade.models.architecture import Architecture
from saccade.nn.eval_mode import eval_mode
from saccade.runs.denoising import Predict, Predicts, ddpm, guided, guided_in_turn, rectified_flow, toward_noise
from saccade.runs.gaussian import Chain

Objective = Literal["flow", "ddpm"]
Decode = Callable[[Tensor], Tensor]
Condition = Tensor | Mapping[str, Tensor]


class Drawn(NamedTuple):
    """`pictures` in [-1, 1], and as `images` of PIL."""

    pictures: Float[Tensor, "b 3 h w"]

    @property
    def images(self) -> list[Image.Image]:
        """One for each row."""
        return [Image.fromarray(each) for each in to_bytes(self.pictures)]


class ArchitecturePipeline:
    """Draws by a model that was taught rectified flow or DDPM.

    decode   turns latents into pictures, such as `vae_decoder(vae)`; None: the model draws pictures
    chain, predicts   of a model that was taught DDPM with other betas, or to predict the velocity
    Raises ValueError for an objective that the model's configuration contradicts.
    """

    def __init__(
        self,
        model: Architecture,
        *,
        objective: Objective = "flow",
        decode: Decode | None = None,
        chain: Chain | None = None,
        predicts: Predicts = "noise",
    ) -> None:
        check_word(("flow", "ddpm"), objective=objective)
        check_word(("noise", "velocity"), predicts=predicts)
        if (own := getattr(model.config, "objective", objective)) != objective:
            raise ValueError(f"objective='{objective}' is not that of the model's configuration, '{own}'; give that")
        self.model, self.objective, self.decode = model, objective, decode
        self.chain, self.predicts = chain, predicts

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> Self:
        """The model that a folder holds; `options` are those of the class."""
        return cls(Architecture.from_pretrained(folder).eval(), **options)

    @torch.no_grad()
    def __call__(
        self,
        condition: Condition,
        *,
        null: Condition | Sequence[Condition] | None = None,
        steps: int = 50,
        guidance: float | Sequence[float] = 1.0,
        guided_channels: int | None = None,
        side: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Drawn:
        """Draw one picture for each row of `condition`: labels (b), embedded words (b m k), or a mapping of tensors.

        null       the same said of nothing, what guidance leads away from; for labels it is known
        guidance   1: none; guided_channels: those that it changes, None for all (the original DiT: 3 of 4)
                   several scales lead from one of as many conditions in `null` to the next, and to `condition`
        side       of what is drawn, for models that are made for any
        Noise is drawn where the generator lives, else on the CPU.
        Raises ValueError where a picture holds NaN or infinity.
        """
        own = next(self.model.parameters())
        predict = self._guided(condition, null, guidance, guided_channels)
        device = "cpu" if generator is None else generator.device
        noise = torch.randn(self.shape(_rows(condition), side), generator=generator, device=device).to(own)
        with eval_mode(self.model):
            if self.objective == "flow":
                drawn = rectified_flow(predict, noise, steps=steps)
            else:
                taught: dict[str, Any] = {"chain": self.chain, "predicts": self.predicts}
                drawn = ddpm(predict, noise, steps=steps, generator=generator, **taught)
        pictures = drawn if self.decode is None else self.decode(drawn)
        check_finite(pictures)
        return Drawn(pictures)

    def shape(self, rows: int, side: int | None = None) -> tuple[int, ...]:
        """Of what the model draws.

        Raises ValueError where neither its configuration nor `side` gives it.
        """
        if getattr(self.model.config, "frames", 1) > 1:
            raise ValueError(
                f"frames={self.model.config.frames}: videos are drawn by runs.rectified_flow with noise of yours"
            )
        side = side or getattr(self.model.config, "side", 0)
        if not side:
            raise ValueError(f"{type(self.model).__name__} is made for any side; give side=")
        return rows, self.model.config.channels, side, side

    def _guided(self, condition: Condition, null: Any, guidance: Any, channels: int | None) -> Predict:
        """The model's answers, under guidance."""
        device = next(self.model.parameters()).device
        model = toward_noise(self.model) if self.objective == "flow" else self.model
        if isinstance(guidance, Sequence):
            if channels is not None:
                raise ValueError(f"guided_channels={channels} goes with one scale, not with guidance={guidance}")
            less = tuple(_to(_expanded(each, condition), device) for each in null or ())
            return guided_in_turn(model, (*less, _to(condition, device)), guidance)
        nothing = _to(self._nothing(condition, null, guidance), device)
        return guided(model, _to(condition, device), nothing, guidance, channels)

    def _nothing(self, condition: Condition, null: Condition | None, guidance: float) -> Condition:
        if null is not None:
            return _expanded(null, condition)
        if isinstance(condition, Mapping) or condition.is_floating_point():
            if guidance != 1:
                raise ValueError(f"guidance={guidance} needs null, the words of an empty caption")
            return condition
        return torch.full_like(condition, self.model.config.classes)


def _rows(condition: Condition) -> int:
    return len(condition if isinstance(condition, Tensor) else next(iter(condition.values())))


def _to(condition: Any, device: torch.device) -> Any:
    if isinstance(condition, Mapping):
        return {name: value.to(device) for name, value in condition.items()}
    return condition.to(device)


def _expanded(null: Any, condition: Any) -> Any:
    """`null` with the rows of `condition`; of a mapping, what it does not name stays as it is."""
    if isinstance(condition, Mapping):
        return {name: null.get(name, value).expand_as(value) for name, value in condition.items()}
    return null.expand_as(condition)


def vae_decoder(vae: nn.Module) -> Decode:
    """Latents (b c h w) to pictures by an autoencoder of diffusers, its scaling undone as its config says.

    latents * latents_std / scaling_factor + latents_mean + shift_factor, each where there is one. Autoencoders of
    video, such as Qwen-Image's, get a single frame.
    Raises ValueError for one whose config holds neither scaling_factor nor latents_std, or that undoes it by itself.
    """
    config = getattr(vae, "config", None)
    scale, std = (getattr(config, name, None) for name in ("scaling_factor", "latents_std"))
    if not hasattr(vae, "decode") or hasattr(vae, "_denormalize_latents") or scale is None and std is None:
        raise ValueError(
            f"vae={type(vae).__name__} has no scaling of its latents (scaling_factor, or latents_mean and "
            "latents_std in its config); give the pipeline decode=, a function of yours"
        )
    video = any(isinstance(part, nn.Conv3d) for part in vae.modules())
    shift = getattr(config, "shift_factor", None) or 0.0

    def decode(latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 y x"]:
        like = next(vae.parameters())
        spread, mean = (_by_channel(vae, name, latents) for name in ("latents_std", "latents_mean"))
        plain = (latents * spread / (scale or 1.0) + mean + shift).to(like)
        return vae.decode(plain[:, :, None]).sample[:, :, 0] if video else vae.decode(plain).sample  # type: ignore[operator]

    return decode


def _by_channel(vae: nn.Module, name: str, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "1 c 1 1"]:
    """What the config, or a buffer beside it, holds for each channel."""
    found = getattr(vae.config, name, None)
    found = dict(vae.named_buffers(recurse=False)).get(name) if found is None else found
    if found is None:
        return latents.new_full((1, latents.shape[1], 1, 1), 1.0 if name == "latents_std" else 0.0)
    values = torch.as_tensor(found).flatten().to(latents)
    if len(values) != latents.shape[1]:
        raise ValueError(f"{name} of {type(vae).__name__} has {len(values)} numbers for {latents.shape[1]} channels")
    return values[None, :, None, None]
