"""The adapter: everything that is trained, apart from the model it was made for; it is saved and loaded alone.

>>> adapter = LayoutAdapter.of(pipe.transformer)  # doctest: +SKIP
>>> adapter.save("layout.safetensors")  # doctest: +SKIP
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from saccade.models.checkpoint_names import SAME, Names, export, load
from saccade.models.stored import make_config, read_metadata, read_weights
from saccade.papers.siamlayout.ablations import CrossBranch, SharedDouble, SharedSingle
from saccade.papers.siamlayout.boxes import LayoutBatch
from saccade.papers.siamlayout.branches import DoubleBranch, SingleBranch
from saccade.papers.siamlayout.config import AdapterConfig, Variant
from saccade.papers.siamlayout.low_rank_branch import LowRankBranch
from saccade.papers.siamlayout.position_net import PositionNet
from saccade.train.checkpoint import write_atomically

Embed = Callable[[Tensor], Tensor]
FILE = "layout.safetensors"
OFFICIAL: Names = (
    ("double_blocks.{}.norm.", "transformer_blocks.{}.norm1_bbox."),
    ("double_blocks.{}.attn.", "transformer_blocks.{}.bbox_fuser_block."),
    ("double_blocks.{}.ff.", "transformer_blocks.{}.ff_bbox."),
    ("double_blocks.{}.out.", "transformer_blocks.{}.bbox_forward."),
    ("position_net.mlp.", "position_net.linears."),
    ("position_net.text_embedder.", "position_net.text_embedder."),
    ("position_net.null_text", "position_net.null_positive_feature"),
    ("position_net.null_box", "position_net.null_position_feature"),
)
OWN = ("position_net.", "bbox")  # what the names of a released file's layout weights hold, beside those of the base


class LayoutAdapter(nn.Module):
    """Position net and a branch for each block; random but for what is zero. `of` makes one that begins as the model.

    Raises ValueError as `AdapterConfig` does.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        words = config.host == "flux"
        self.position_net = PositionNet(config.dim, None if words else config.text_width)
        last = config.double - 1 if config.host == "sd3" else None
        self.double_blocks = nn.ModuleList([_double(config, updates=i != last) for i in range(config.double)])
        self.single_blocks = nn.ModuleList([_single(config) for _ in range(config.single)])

    @classmethod
    def of(cls, transformer: Any, *, variant: Variant = "siamese", rank: int | None = None) -> Self:
        """For a transformer, from whose weights the branches set out; `Z` is zero, so it changes nothing.

        Raises ValueError for a transformer of another class.
        """
        made = cls(AdapterConfig.of(transformer, variant=variant, rank=rank))
        for branch, block in zip(made.double_blocks, transformer.transformer_blocks, strict=True):
            branch.copy_(block)  # type: ignore[operator]
        for branch, block in zip(
            made.single_blocks, getattr(transformer, "single_transformer_blocks", ()), strict=True
        ):
            branch.copy_(block)  # type: ignore[operator]
        return made

    def tokens(self, layout: LayoutBatch, embed: Embed) -> Float[Tensor, "b m d"]:
        """Layout tokens; `embed` is the model's own projection of words.

        Raises ValueError for texts of another width.
        """
        width, words = self.config.text_width, self.config.host == "flux"
        if layout.text.shape[-1] != width or (layout.text.ndim == 4) != words:
            kind = "(b n w c), one vector a word" if words else "(b n c), one pooled vector a caption"
            raise ValueError(
                f"text of shape {tuple(layout.text.shape)} must be {kind}, of width {width}; use encode_layout"
            )
        own = self.position_net.null_text
        text = embed(layout.text.to(own)) if words else layout.text.to(own)
        return self.position_net(layout.boxes.to(own), layout.mask, text)

    def save(self, path: str | Path) -> Path:
        """Store weights and configuration in one file; a folder gets the usual name."""
        file = _file(Path(path))
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        known = {"siamlayout": json.dumps(asdict(self.config))}
        write_atomically(file, lambda partial: save_file(tensors, partial, metadata=known))
        return file

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """What `save` stored, in the precision in which it is stored.

        Raises ValueError for a file of another kind, LoadError for one that lacks weights or has others.
        """
        file = _file(Path(path))
        said = read_metadata(file)
        if "siamlayout" not in said:
            raise ValueError(f"path='{file}' says of no layout adapter in its metadata; use load_official for released")
        made, stored = cls(make_config(AdapterConfig, json.loads(said["siamlayout"]), file)), read_weights(file)
        made.to(next(iter(stored.values())).dtype)
        load(made, stored, [SAME])
        return made

    def load_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take the layout's weights of a released SD3 state dict; what is left, the base model's, is returned.

        Raises LoadError, before anything is copied, where a weight is missing, unknown or of another shape, ValueError
        for an adapter whose official names are not known.
        """
        self._check_official()
        mine = {name: value for name, value in state.items() if any(part in name for part in OWN)}
        load(self, mine, [OFFICIAL])
        return {name: value for name, value in state.items() if name not in mine}

    def official(self) -> dict[str, Tensor]:
        """The weights under the released names. Raises ValueError as `load_official` does."""
        self._check_official()
        return export(self, OFFICIAL)

    def _check_official(self) -> None:
        said = self.config
        if said.host != "sd3" or said.variant != "siamese" or said.rank is not None:
            raise ValueError(
                f"host='{said.host}', variant='{said.variant}', rank={said.rank}: official names are known of SD3's "
                "siamese adapter with whole weights only; use save and load"
            )


def _file(path: Path) -> Path:
    return path if path.suffix == ".safetensors" else path / FILE


def _double(config: AdapterConfig, *, updates: bool) -> nn.Module:
    if config.variant == "adapter":
        return CrossBranch(config.dim, single=False)
    if config.variant == "m3":
        return SharedDouble(config.dim, updates=updates)
    if config.rank is not None:
        return LowRankBranch(config.dim, config.rank, updates=updates)
    return DoubleBranch(config.dim, config.heads, qk_norm=config.qk_norm, updates=updates)


def _single(config: AdapterConfig) -> nn.Module:
    if config.variant == "adapter":
        return CrossBranch(config.dim, single=True)
    if config.variant == "m3":
        return SharedSingle(config.dim)
    return SingleBranch(config.dim, config.heads, qk_norm=config.qk_norm)
