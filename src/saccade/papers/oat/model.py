"""OAT: the objects of a layout are encoded, the fixations so far decoded, and the next object is pointed at.

    encoder   P objects and the target as one more token, each [appearance | position]
    decoder   begin and the objects fixated so far, likewise, plus the step's sinusoid; causal
    logits    P objects, end of the search, padding: `nn.PointerHead` from decoder to encoder

Source: OAT (2024), as the released code has it.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from saccade.core.checks import check_word
from saccade.models.architecture import Architecture, Prediction, check_config
from saccade.models.checkpoint_names import Names
from saccade.models.unwrapping import State
from saccade.nn.part import MixerOutput, TokenPositions, added
from saccade.nn.pointer import PointerHead
from saccade.nn.registry import make_mixer
from saccade.nn.token_mlp import check_dropout
from saccade.papers.oat.blocks import NAMES, DecoderBlock, EncoderBlock
from saccade.papers.oat.crops import CropEmbedding
from saccade.papers.oat.official import joined_projections, split_projections
from saccade.papers.oat.positions import PositionCode, PositionKind, time_code
from saccade.papers.oat.search import (
    Search,
    TargetPosition,
    check_sequence,
    fixation_places,
    object_places,
    special,
)

SPECIAL = 1.0  # every value of the crop of a token that is no object


@dataclass(frozen=True, kw_only=True)
class OATConfig:
    """Sizes and parts.

    width        of a token: half of it appearance, half position
    heads        of attention
    hidden       channels inside the feed-forwards
    depth, decoder_depth   blocks
    mixer        of the encoder and, causally, of the decoder
    pointer_heads   of the pointer; their scores are weighed where there are several
    pointer_width   scores of the pointer are divided by its root; None: width
    features     what `Search.objects` holds: "crops"; "vectors" of half the width, taken as they are; or the length of
                 vectors made elsewhere, which a linear layer brings to that
    crop         height and width of crops, in pixels
    pyramid      levels of a spatial pyramid, for crops of any size; 0: none
    positions    kind of the position code
    places       rows and columns that its table has, at least the layout's
    sigma        of the Gaussian, in places
    alpha        of the frequency laws "exp1", "exp2" and "linear"
    rotation     seed by which the Gaussian table is turned, so that a code fills its channels; None: not turned
    table_width   channels of one axis; None: a third of half the width, even and rounded up
    continuous   places between whole numbers have codes of their own, as natural pictures need
    target_position   "neutral": the target token does not give away where the target is; "true": it does, as released
    dropout      of what blocks add, and of what the decoder reads
    compat       "official": crops of end and padding are zeros in decoding, ones in training
    Raises ValueError for options out of range.
    """

    width: int = 512
    heads: int = 4
    hidden: int = 512
    depth: int = 4
    decoder_depth: int = 4
    mixer: str = "attention"
    pointer_heads: int = 2
    pointer_width: int | None = None
    features: Literal["crops", "vectors"] | int = "crops"
    crop: tuple[int, ...] = (150, 93)
    pyramid: int = 0
    positions: PositionKind = "gaussian"
    places: int = 14
    sigma: float = 2.0
    alpha: float = 0.9
    rotation: int | None = 0
    table_width: int | None = None
    continuous: bool = False
    target_position: TargetPosition = "neutral"
    dropout: float = 0.1
    compat: Literal["none", "official"] = "none"

    def __post_init__(self) -> None:
        check_config(self, width=2, heads=1, hidden=1, depth=1, decoder_depth=1, pointer_heads=1, places=2, pyramid=0)
        check_dropout(self.dropout)
        check_word(("none", "official"), compat=self.compat)
        check_word(get_args(TargetPosition), target_position=self.target_position)
        if self.width % 2:
            raise ValueError(f"width={self.width} must be even: half for appearance, half for position")
        if self.features not in ("crops", "vectors") and (isinstance(self.features, str) or self.features < 1):
            raise ValueError(f"features={self.features!r} must be 'crops', 'vectors' or the length of a vector")
        if len(self.crop) != 2:
            raise ValueError(f"crop={self.crop} must be (height, width)")


class OAT(Architecture):
    """Logits of the next fixated object, after each fixation so far."""

    config_class = OATConfig
    config: OATConfig
    sizes: ClassVar[dict[str, Any]] = {
        "Amazon": OATConfig(),
        "yogurt": OATConfig(places=11),
        "wine": OATConfig(places=11),
    }
    names: ClassVar[Names] = (
        *((f"encoder.{{}}.{ours}", f"transformer_encoder.layers.{{}}.{theirs}") for ours, theirs in NAMES),
        *((f"decoder.{{}}.{ours}", f"transformer_decoder.layers.{{}}.{theirs}") for ours, theirs in NAMES),
        ("pointer.heads.{}.query.", "cross_attentions.{}.decode_fc."),
        ("pointer.heads.{}.key.", "cross_attentions.{}.encode_fc."),
        ("pointer.readout.", "readout."),
        ("appearance.first.", "cnn_embedding.cnn1.0."),
        ("appearance.second.", "cnn_embedding.cnn2.0."),
        ("appearance.out.", "cnn_embedding.fc."),
        ("positions.table", "positions.table"),
    )

    def __init__(self, config: OATConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        c, half = self.config, self.config.width // 2
        self.appearance = self._appearance(half)
        self.positions = PositionCode(
            c.positions,
            c.places,
            half,
            sigma=c.sigma,
            alpha=c.alpha,
            rotation=c.rotation,
            table_width=c.table_width,
            continuous=c.continuous,
        )
        self.drop = nn.Dropout(c.dropout)
        self.encoder = nn.ModuleList(
            EncoderBlock(c.width, make_mixer(c.mixer, c.width, c.heads), c.hidden, c.dropout) for _ in range(c.depth)
        )
        self.decoder = nn.ModuleList(
            DecoderBlock(c.width, c.heads, make_mixer(c.mixer, c.width, c.heads), c.hidden, c.dropout)
            for _ in range(c.decoder_depth)
        )
        self.pointer = PointerHead(c.width, heads=c.pointer_heads, scale_width=c.pointer_width)
        for weight in self.parameters():
            if weight.ndim > 1:
                nn.init.xavier_uniform_(weight)

    def _appearance(self, half: int) -> nn.Module:
        c = self.config
        if c.features == "crops":
            return CropEmbedding(half, (c.crop[0], c.crop[1]), pyramid=c.pyramid)
        return nn.Identity() if c.features == "vectors" else nn.Linear(int(c.features), half)

    def forward(self, search: Search, sequence: Int64[Tensor, "b t"]) -> Prediction:
        """Logits (b, t, P + 2) of what follows each token of `sequence`: P objects, end, padding.

        sequence   begins with `special(P).begin`; padded by `special(P).pad`
        Raises ValueError for a sequence that does not begin, or with tokens outside the vocabulary.
        """
        looks = self.looks(search)
        encoded = self.encode(self.object_tokens(search, looks), search.keep)
        tokens = self.fixation_tokens(search, sequence, looks)
        decoded = self.decode(tokens, encoded.out, sequence != special(search.count).pad, search.keep)
        logits = self.pointer(decoded.out, encoded.out, there(search.keep))
        return Prediction(logits, added((encoded.losses, decoded.losses)))

    def looks(self, search: Search, *, decoding: bool = False) -> Float[Tensor, "b n e"]:
        """Appearance of P objects, then of end, padding and begin.

        Raises ValueError for objects that are not as the configuration says.
        """
        wanted = 5 if self.config.features == "crops" else 3
        if search.objects.ndim != wanted:
            raise ValueError(
                f"objects of shape {tuple(search.objects.shape)} have {search.objects.ndim} axes; "
                f"features={self.config.features!r} takes {wanted}"
            )
        ones = search.objects.new_full(search.objects.shape[2:], SPECIAL) if search.blank is None else search.blank
        behind = torch.zeros_like(ones) if decoding and self.config.compat == "official" else ones
        extra = self.appearance(torch.stack((behind, behind, ones))[None])
        return torch.cat((self.appearance(search.objects), extra.expand(len(search.objects), -1, -1)), dim=1)

    def object_tokens(self, search: Search, looks: Float[Tensor, "b n e"]) -> Float[Tensor, "b m d"]:
        """What the encoder reads: P objects and the target; in free viewing the last looks like end."""
        rows = torch.arange(len(looks), device=looks.device)
        last = looks[:, search.count] if search.target is None else looks[rows, search.target]
        shown = torch.cat((looks[:, : search.count], last[:, None]), dim=1)
        return self._placed(shown, object_places(search, self.config.target_position), search)

    def fixation_tokens(
        self, search: Search, sequence: Int64[Tensor, "b t"], looks: Float[Tensor, "b n e"]
    ) -> Float[Tensor, "b t d"]:
        """What the decoder reads.

        Raises ValueError as `forward` does.
        """
        check_sequence(sequence, search.count)
        shown = looks.gather(1, sequence[..., None].expand(-1, -1, looks.shape[-1]))
        tokens = self._placed(shown, fixation_places(search, sequence), search)
        return tokens + time_code(sequence.shape[1], self.config.width).to(tokens)

    def _placed(self, looks: Float[Tensor, "b n e"], places: Float[Tensor, "b n 3"], search: Search) -> Tensor:
        if max(search.grid) > self.config.places:
            raise ValueError(f"grid={search.grid} is larger than places={self.config.places} of the position table")
        return torch.cat((looks, self.positions(places, search.centre).to(looks)), dim=-1)

    def encode(self, tokens: Float[Tensor, "b m d"], keep: Bool[Tensor, "b n"] | None = None) -> MixerOutput:
        """`keep`: of the objects, without the target token."""
        x, losses, place = tokens, [], TokenPositions(keep=there(keep))
        for block in self.encoder:
            x, more, _ = block(x, place)
            losses.append(more)
        return MixerOutput(x, added(losses))

    def decode(
        self,
        tokens: Float[Tensor, "b t d"],
        encoded: Float[Tensor, "b m d"],
        keep: Bool[Tensor, "b t"] | None = None,
        objects: Bool[Tensor, "b n"] | None = None,
    ) -> MixerOutput:
        """`keep`: false at padding of `tokens`; `objects`: as `encode` takes it."""
        x, losses, place = self.drop(tokens), [], TokenPositions(keep=keep, causal=True)
        seen = there(objects)
        mask = None if seen is None else seen[:, None, None]
        for block in self.decoder:
            x, more, _ = block(x, encoded, place, mask)
            losses.append(more)
        return MixerOutput(x, added(losses))

    def from_official(self, state: State) -> State:
        """The released weights as ours are cut; layers that the released model does not use are left out."""
        return {"positions.table": self.positions.table, **split_projections(state)}

    def official_state(self) -> State:
        """The weights under the released names, without the position table, which is a file of its own there.

        Raises ValueError where some have none, since the released code knows no such configuration.
        """
        found = joined_projections(super().official_state())
        return {name: value for name, value in found.items() if name != "positions.table"}


def there(keep: Bool[Tensor, "b n"] | None) -> Bool[Tensor, "b m"] | None:
    """`keep` of the objects, with that of the target token, which is always there."""
    return None if keep is None else torch.cat((keep, torch.ones_like(keep[:, :1])), dim=1)
