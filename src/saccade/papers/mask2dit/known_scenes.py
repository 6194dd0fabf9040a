"""Hold some scenes of a CogVideoX transformer as known: they are modulated with a timestep of their own, 0 if clean.

The model's own code runs. Its time embedding answers with two conditionings, of the timestep and of the known scenes'
time; every norm that is modulated by it is evaluated under both, and what comes of them, gates included, is taken token
by token. Attention stays as it is: known and new scenes see one another. Nothing is held: bitwise the host.

>>> known = KnownScenes(pipe.transformer, scenes=3)  # doctest: +SKIP
>>> with known.holding(2):  # doctest: +SKIP
...     velocity = pipe.transformer(hidden_states=..., timestep=..., ...)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.errors import StateError
from saccade.seam.around import Altered, Forward

MARK = "_saccade_known_scenes"  # the attribute of a transformer that has it
PARTS = ("time_proj", "time_embedding", "transformer_blocks", "norm_final", "norm_out")
TIMES = ("now", "known")


class KnownScenes(Altered):
    """A CogVideoX transformer that can hold all scenes but one as known; also a context manager that undoes it.

    scenes       n, of one length
    text_tokens  of each caption; None for an n-th of the text
    Raises ValueError for another model, one that has this already, and options out of range.
    """

    def __init__(self, transformer: Any, *, scenes: int, text_tokens: int | None = None) -> None:
        name = type(transformer).__name__
        if scenes < 1:
            raise ValueError(f"scenes={scenes} must be at least 1")
        if not all(hasattr(transformer, part) for part in PARTS):
            raise ValueError(
                f"{name} is no CogVideoX transformer; give pipe.transformer of a CogVideoXPipeline, and to Wan "
                "timesteps by token, by `token_times`"
            )
        if hasattr(transformer, MARK):
            raise ValueError(f"{name} holds known scenes already; undo that first")
        self.transformer, self.scenes, self.text_tokens = transformer, scenes, text_tokens
        self.clip: int | None = None
        self.times: Tensor = torch.zeros(1)
        super().__init__(transformer, MARK)
        self._alter()

    @contextmanager
    def holding(self, clip: int | None, times: Tensor | float = 0.0) -> Iterator[Self]:
        """Hold every scene but number `clip`, from 0, in every forward within; None holds none.

        times  of the known scenes, in the host's units: one for all rows of a batch, or one for each
        Backward with checkpointing belongs inside too. Raises ValueError for a scene there is not.
        """
        if clip is not None and not 0 <= clip < self.scenes:
            raise ValueError(f"clip={clip} must be 0 to {self.scenes - 1}, one of {self.scenes} scenes, or None")
        before = self.clip, self.times
        self.clip, self.times = clip, torch.as_tensor(times).reshape(-1)
        try:
            yield self
        finally:
            self.clip, self.times = before

    def _alter(self) -> None:
        model: Any = self.transformer
        self._before(model, self._check)
        self._around(model.time_proj, self._times)
        if getattr(model, "ofs_embedding", None) is not None:
            self._around(model.ofs_embedding, self._beside)
        for block in model.transformer_blocks:
            for norm in (block.norm1, block.norm2):
                self._around(norm, self._norm)
        self._around(model.norm_out, self._leave)

    def _times(self, own: Forward, timestep: Tensor) -> Tensor:
        """Of both times (b 2 c)."""
        if self.clip is None:
            return own(timestep)
        known = self.times.to(timestep).expand(len(timestep))
        return torch.stack((own(timestep), own(known)), dim=1)

    def _beside(self, own: Forward, x: Tensor, *args: Any) -> Tensor:
        out = own(x, *args)
        return out if self.clip is None else out[:, None]

    def _norm(self, own: Forward, video: Tensor, text: Tensor, temb: Tensor) -> tuple[Tensor, ...]:
        """(video, text, gate of video, gate of text), each token under its own time."""
        if not self._holds(temb):
            return own(video, text, temb)
        clip, words = self._of_clip(video), self._of_clip(text)
        both = (own(video, text, temb[:, time]) for time in range(len(TIMES)))
        chosen = (clip, words, clip, words)
        return tuple(torch.where(own_time, *x) for own_time, x in zip(chosen, zip(*both, strict=True), strict=True))

    def _leave(self, own: Forward, video: Tensor, *, temb: Tensor) -> Tensor:
        if not self._holds(temb):
            return own(video, temb=temb)
        return torch.where(self._of_clip(video), own(video, temb=temb[:, 0]), own(video, temb=temb[:, 1]))

    def _of_clip(self, tokens: Float[Tensor, "b n c"]) -> Bool[Tensor, "n 1"]:
        """Which of n captions' or clips' tokens are those of the scene that is not known."""
        n = tokens.shape[1]
        return (torch.arange(n, device=tokens.device) // (n // self.scenes) == self.clip)[:, None]

    def _holds(self, temb: Tensor) -> bool:
        """Whether this forward holds scenes; StateError where it did and they are gone."""
        if temb.ndim == 3 and self.clip is None:
            raise StateError(
                "a part of a forward runs again, as gradient checkpointing has it, and its scenes are no longer held; "
                "call backward() inside `with known.holding(...)`"
            )
        return temb.ndim == 3

    def _check(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """ValueError for a forward that does not fit what is held."""
        if self.clip is None:
            return
        named = dict(zip(("hidden_states", "encoder_hidden_states"), args, strict=False)) | kwargs
        latents, words = named["hidden_states"], named["encoder_hidden_states"]
        tokens = latents.shape[1] // (model.config.patch_size_t or 1)
        if tokens % self.scenes:
            raise ValueError(f"hidden_states have {tokens} latent frames, no {self.scenes} scenes of one length")
        text, per = words.shape[1], self.text_tokens
        if text % self.scenes or (per is not None and text != self.scenes * per):
            wanted = f"a multiple of scenes={self.scenes}" if per is None else f"{self.scenes} x text_tokens={per}"
            raise ValueError(f"the text has {text} tokens, not {wanted}; put one caption for each scene in a row")
        if len(self.times) not in (1, len(latents)):
            raise ValueError(f"times has {len(self.times)} entries for {len(latents)} batch rows; give one, or as many")


def token_times(
    t: Float[Tensor, " b"], grid: tuple[int, int, int], *, scenes: int, clip: int | None, known: float = 0.0
) -> Float[Tensor, "b n"]:
    """Timesteps by token for Wan, whose forward takes them as `timestep`: t for scene `clip`, `known` for the others.

    grid  of the tokens: latent frames, rows and columns over the model's patches
    Raises ValueError for frames that are no such scenes, and for a scene there is not.
    """
    frames, rows, columns = grid
    if scenes < 1 or frames % scenes:
        raise ValueError(f"grid={grid} has {frames} latent frames, no scenes={scenes} of one length")
    if clip is not None and not 0 <= clip < scenes:
        raise ValueError(f"clip={clip} must be 0 to {scenes - 1}, one of {scenes} scenes, or None")
    scene = torch.arange(frames, device=t.device).repeat_interleave(rows * columns) // (frames // scenes)
    whole = t[:, None].expand(-1, len(scene))
    return whole.clone() if clip is None else torch.where(scene == clip, whole, torch.full_like(whole, known))
