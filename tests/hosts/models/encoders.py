"""Tiny encoders of text and of pictures, and models that read one sequence and write another: a row for each class."""

from functools import partial
from importlib import import_module
from typing import Any

import torch

from tests.hosts.host import Host
from tests.hosts.stand_ins import Near
from tests.hosts.transformers.texts import RIGHT, SIZES, VOCABULARY, Made, words

Row = tuple[str, str, dict[str, Any]]  # model, config, what it has beyond the common sizes
DISTIL = {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4}
T5: dict[str, Any] = {
    "vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
    "decoder_start_token_id": 0,
}  # fmt: skip
BOTH: dict[str, Any] = {
    "vocab_size": VOCABULARY, "d_model": 32, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 0, "forced_eos_token_id": None,
    **{f"{part}_{name}": n for part in ("encoder", "decoder") for name, n in (("layers", 2), ("ffn_dim", 48))},
    **{f"{part}_attention_heads": 4 for part in ("encoder", "decoder")},
}  # fmt: skip
WHISPER: dict[str, Any] = {**BOTH, "num_mel_bins": 6, "max_source_positions": 9, "max_target_positions": 32}
TEXTS: tuple[Row, ...] = (
    ("XLMRobertaForMaskedLM", "XLMRobertaConfig", {}),
    ("CamembertModel", "CamembertConfig", {}),
    ("ElectraModel", "ElectraConfig", {"embedding_size": 32}),
    ("ErnieModel", "ErnieConfig", {}),
    ("DistilBertForMaskedLM", "DistilBertConfig", DISTIL),
    ("CLIPTextModel", "CLIPTextConfig", {"eos_token_id": 39}),
    ("SiglipTextModel", "SiglipTextConfig", {}),
    ("T5EncoderModel", "T5Config", T5),
    ("UMT5EncoderModel", "UMT5Config", T5),
)
PAIRS: tuple[Row, ...] = (
    ("T5ForConditionalGeneration", "T5Config", T5),
    ("UMT5ForConditionalGeneration", "UMT5Config", T5),
    ("BartForConditionalGeneration", "BartConfig", BOTH),
    ("MarianMTModel", "MarianConfig", BOTH),
    ("MBartForConditionalGeneration", "MBartConfig", BOTH),
    ("M2M100ForConditionalGeneration", "M2M100Config", BOTH),
    ("WhisperForConditionalGeneration", "WhisperConfig", WHISPER),
)
VISION: tuple[tuple[str, str, dict[str, Any], int], ...] = (  # and the tokens before the patches
    ("ViTModel", "ViTConfig", {}, 1),
    ("DeiTModel", "DeiTConfig", {}, 2),
    ("Dinov2Model", "Dinov2Config", {}, 1),
    ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", {"num_register_tokens": 3}, 4),
    ("DINOv3ViTModel", "DINOv3ViTConfig", {"num_register_tokens": 3}, 4),
    ("IJepaModel", "IJepaConfig", {}, 0),
    ("CLIPVisionModel", "CLIPVisionConfig", {}, 1),
    ("SiglipVisionModel", "SiglipVisionConfig", {}, 0),
)


def _model(name: str, config: str, sizes: dict[str, Any]) -> Any:
    library = import_module("transformers")
    return getattr(library, name)(getattr(library, config)(**sizes))


def text(name: str, config: str, more: dict[str, Any]) -> Made:
    """An encoder and two rows of words, the second padded."""
    return _model(name, config, {**SIZES, **more}), words(RIGHT)


def pair(name: str, config: str, more: dict[str, Any]) -> Made:
    """An encoder and a decoder; ten words, or nine frames of sound, are read and five words are written."""
    said = {"decoder_input_ids": torch.randint(3, VOCABULARY, (2, 5)), "use_cache": False}
    if name.startswith("Whisper"):
        return _model(name, config, more), {"input_features": torch.randn(2, 6, 18), **said, "return_dict": False}
    return _model(name, config, more), {**words(RIGHT), **said}


def vision(name: str, config: str, more: dict[str, Any]) -> Made:
    """An encoder of pictures of 4 x 4 patches."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = _model(name, config, {**sizes, "image_size": 16, "patch_size": 4, **more})
    return model, {"pixel_values": torch.randn(2, 3, 16, 16), "return_dict": False}


def _host(make: Any, name: str, *row: Any, layout: str = "text 10") -> Host:
    return Host(name.lower(), partial(make, name, *row), layout, Near(3), Near(1000))


def _seen(name: str, config: str, more: dict[str, Any], before: int) -> Host:
    layout = f"prefix {before} | image 16 (1x4x4)" if before else "image 16 (1x4x4)"
    return Host(name.lower(), partial(vision, name, config, more), layout)


HOSTS = (
    *(_host(text, *row) for row in TEXTS),
    *(_host(pair, *row, layout="sound 9 (9x1x1)" if row[0].startswith("Whisper") else "text 10") for row in PAIRS),
    *(_seen(*row) for row in VISION),
)
