"""Tokenizers by the word for the captions of `saccade.data.scenes`: every word one token, the same for all encoders."""

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from saccade.data.scenes import vocabulary

PAD, UNKNOWN, BEGIN, END = 0, 1, 2, 3
SPECIAL = ("<pad>", "<unk>", "<bos>", "<eos>")
MAX_CLIP = 32  # words of the longest caption, begin and end, and some room


def word_ids() -> dict[str, int]:
    """Token of every special mark and word of the scenes, the same for all encoders."""
    return {word: i for i, word in enumerate((*SPECIAL, *vocabulary()))}


def t5_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, nothing added."""
    return _tokenizer(512)


def clip_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word between begin and end; the pooled embedding is read at the end."""
    return _tokenizer(MAX_CLIP, begin_end=True)


def _tokenizer(longest: int, *, begin_end: bool = False) -> PreTrainedTokenizerFast:

    tokenizer = Tokenizer(models.WordLevel(word_ids(), unk_token=SPECIAL[UNKNOWN]))
    tokenizer.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    if begin_end:
        marks = [(SPECIAL[i], i) for i in (BEGIN, END)]
        tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
            single=f"{marks[0][0]} $A {marks[1][0]}", special_tokens=marks
        )
    names = dict(zip(("pad_token", "unk_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=longest, **names)
