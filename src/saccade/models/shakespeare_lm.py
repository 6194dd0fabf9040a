"""A masked-diffusion language model of a million parameters and a half, writing tiny Shakespeare by the character.

ModernBERT, the upstream class with small numbers: rotary positions, every layer sees all tokens in both directions.
The mask predictor of LLaDA is such a model: it receives no timestep, only tokens some of which are [MASK].
"""

from dataclasses import dataclass

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.models.modernbert.configuration_modernbert import ModernBertConfig
from transformers.models.modernbert.modeling_modernbert import ModernBertForMaskedLM

from saccade.data.text import CHARACTERS

PAD, UNKNOWN, MASK = 0, 1, 2
SPECIAL = ("[PAD]", "[UNK]", "[MASK]")


@dataclass(frozen=True, kw_only=True)
class ShakespeareLM:
    """Sizes; the defaults are those of the shipped weights. `context`: longest sequence trained, in tokens.

    Raises ValueError for options out of range.
    """

    hidden: int = 192
    layers: int = 4
    heads: int = 8
    inner: int = 384
    context: int = 256
    theta: float = 10000.0

    def __post_init__(self) -> None:
        if self.hidden % (2 * self.heads):
            raise ValueError(
                f"hidden={self.hidden} must be a multiple of 2 * heads={2 * self.heads}; rotary positions turn pairs"
            )

    def model(self) -> ModernBertForMaskedLM:
        """The model with random weights."""
        config = ModernBertConfig(
            vocab_size=len(character_ids()),
            hidden_size=self.hidden,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            max_position_embeddings=self.context,
            layer_types=["full_attention"] * self.layers,
            rope_parameters={
                kind: {"rope_type": "default", "rope_theta": self.theta}
                for kind in ("full_attention", "sliding_attention")
            },
            pad_token_id=PAD,
            **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")),
        )
        return ModernBertForMaskedLM(config)


def character_ids() -> dict[str, int]:
    """Token of every special mark and character."""
    return {character: i for i, character in enumerate((*SPECIAL, *CHARACTERS))}


def character_tokenizer(longest: int = 256) -> PreTrainedTokenizerFast:
    """One token a character, nothing added; `decode` joins them again."""
    tokenizer = Tokenizer(models.WordLevel(character_ids(), unk_token=SPECIAL[UNKNOWN]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")  # type: ignore[assignment]
    tokenizer.decoder = decoders.Fuse()  # type: ignore[assignment]
    names = dict(zip(("pad_token", "unk_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=longest,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        **names,
    )
