"""`saccade train mask2dit`: a small CogVideoX of two scenes, first on unrelated clips, then on shots of one story.

Latents are pixels, and words are one-hot: nothing but the transformer is trained. A killed training goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel
from diffusers.pipelines.cogvideo.pipeline_cogvideox import CogVideoXPipeline
from diffusers.schedulers.scheduling_ddim_cogvideox import CogVideoXDDIMScheduler
from torch import Tensor

from saccade.attach import attach
from saccade.models.scene_words import word_ids
from saccade.papers.mask2dit.sampling import Sampling
from saccade.papers.mask2dit.stories import Stories, render_stories
from saccade.papers.mask2dit.system import Mask2DiT, Seen
from saccade.papers.mask2dit.training import SceneLoss, SceneStage, SceneTask
from saccade.train.launching import process
from saccade.train.settings import check_run
from saccade.train.stages import TrainedPart, stage_settings, train_parts

Stage = Literal["pretrain", "stories", "export"]
STAGES: tuple[Stage, ...] = get_args(Stage)
NEEDS: dict[str, tuple[Stage, ...]] = {"pretrain": (), "stories": ("pretrain",)}


@dataclass(frozen=True, kw_only=True)
class SmallScenes:
    """Sizes of the model and its videos: `scenes` clips of `frames` latent frames, `side` pixels, captions of
    `text_tokens` words; `heads` of 16 channels. `close`: a thing still in the middle, seen from near by.
    """

    scenes: int = 2
    frames: int = 2
    side: int = 16
    text_tokens: int = 8
    layers: int = 4
    heads: int = 4
    patch: int = 4
    close: bool = False

    def pipeline(self) -> Any:
        """Of random weights, without text encoder and autoencoder, which a latent frame of 8 x 8 pixels stands for."""
        transformer = CogVideoXTransformer3DModel(
            num_attention_heads=self.heads, attention_head_dim=16, in_channels=3, out_channels=3, time_embed_dim=64,
            text_embed_dim=len(word_ids()), num_layers=self.layers, sample_width=self.side, sample_height=self.side,
            sample_frames=4 * self.frames - 3, patch_size=self.patch, max_text_seq_length=self.text_tokens,
            use_rotary_positional_embeddings=True,
        )  # fmt: skip
        scheduler = CogVideoXDDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
        none: Any = None
        pipe = CogVideoXPipeline(
            tokenizer=none, text_encoder=none, vae=none, transformer=transformer.eval(), scheduler=scheduler
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def sampling(self, **options: Any) -> Sampling:
        """Of clips of this size, without guidance."""
        size = {"frames": 4 * self.frames - 3, "height": 8 * self.side, "width": 8 * self.side}
        return Sampling(**{**size, "guidance": 1.0, **options})

    def system(self, mask: Seen = "dual") -> Mask2DiT:
        """For the tokens of this model."""
        return Mask2DiT(scenes=self.scenes, text_tokens=self.text_tokens, mask=mask)

    def loss(self, pipe: Any) -> SceneLoss:
        """Of all scenes on one continuous grid."""
        side, frames = 8 * self.side, self.scenes * self.frames
        rotary: tuple[Tensor, Tensor] = pipe._prepare_rotary_positional_embeddings(
            side, side, frames, torch.device("cpu")
        )
        return SceneLoss(pipe.transformer, pipe.scheduler, scenes=self.scenes, rotary=rotary)

    def stories(self, count: int, *, shots: int, seed: int) -> Stories:
        """Rendered at this size."""
        size = {"frames": self.frames, "side": self.side, "close": self.close}
        return render_stories(count, shots=shots, seed=seed, **size)


@dataclass(frozen=True, kw_only=True)
class Mask2DiTRecipe:
    """Everything that decides the result; `seed` also of the random start and the pool of `count` stories of `shots`.

    start  folder of a transformer whose weights the first stage sets out from; empty for random ones
    mask   as of `Mask2DiT`
    """

    seed: int = 0
    start: str = ""
    mask: Seen = "dual"
    count: int = 512
    shots: int = 3
    model: SmallScenes = field(default_factory=SmallScenes)
    pretrain: SceneStage = field(default_factory=lambda: SceneStage(related=False, conditional=0.0))
    stories: SceneStage = field(default_factory=SceneStage)

    def run(self, folder: Path, stages: Sequence[Stage] = STAGES) -> Path:
        """Train both stages, then store the transformer; returns its folder."""
        for name in NEEDS:
            check_run(folder / name, self.settings(name))
        torch.manual_seed(self.seed)
        pipe = self.model.pipeline()
        if self.start:
            weights = CogVideoXTransformer3DModel.from_pretrained(self.start).state_dict()
            pipe.transformer.load_state_dict(weights)
        loss = self.model.loss(pipe)
        with attach(pipe.transformer, self.model.system(self.mask)):
            train_parts(self._parts(loss), folder, self.settings, stages)
        loss.known.undo()
        if "export" in stages and process().is_main_process:
            pipe.transformer.save_pretrained(folder / "transformer")
        return folder / "transformer"

    def settings(self, stage: str) -> dict[str, Any]:
        """What decides the result of a stage."""
        more = {"mask": self.mask, "count": self.count, "shots": self.shots}
        return stage_settings(self, stage, NEEDS[stage]) | more

    def _parts(self, loss: SceneLoss) -> dict[str, TrainedPart]:
        pool: list[Stories] = []

        def task(stage: SceneStage) -> SceneTask:
            if not pool:
                pool.append(self.model.stories(self.count, shots=self.shots, seed=self.seed))
            return SceneTask(loss, pool[0], stage, text_tokens=self.model.text_tokens)

        return {
            "pretrain": TrainedPart(module=loss, task=lambda: task(self.pretrain), fit=self.pretrain.fit),
            "stories": TrainedPart(module=loss, task=lambda: task(self.stories), fit=self.stories.fit),
        }
