"""Judges from tiny random networks that are saved and opened again."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, ViTConfig, ViTModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from saccade.metrics import structure_distance
from saccade.models.judges import key_features, text_judge
from saccade.models.scene_words import BEGIN, END, MAX_CLIP, PAD, clip_tokenizer, word_ids

pytestmark = pytest.mark.host
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((1, 24, 24, 3))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    marks = {"vocab_size": len(word_ids()), "pad_token_id": PAD, "bos_token_id": BEGIN, "eos_token_id": END}
    config = CLIPConfig(
        text_config={**SMALL, **marks, "max_position_embeddings": MAX_CLIP},
        vision_config={**SMALL, "image_size": 16, "patch_size": 8}, projection_dim=8,
    )  # fmt: skip
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    CLIPProcessor(images, clip_tokenizer()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    ViTModel(ViTConfig(**SMALL, image_size=16, patch_size=4), add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def test_the_text_judge_is_a_hundred_times_the_cosine(clip: Path) -> None:
    found = text_judge(clip)(picture(0), "a red circle")
    model, images = CLIPModel.from_pretrained(clip), CLIPImageProcessorPil.from_pretrained(clip)
    pixels = images([Image.fromarray((picture(0)[0] * 255).round().astype(np.uint8))], return_tensors="pt")
    words = clip_tokenizer()(["a red circle"], return_tensors="pt")
    with torch.no_grad():
        out = model(**pixels, **words)
    cosine = float((out.image_embeds * out.text_embeds).sum())
    assert found == pytest.approx(max(0.0, 100 * cosine), abs=1e-3)
    assert found != text_judge(clip)(picture(1), "a red circle")


def test_features_are_the_keys_of_the_last_layer(vit: Path) -> None:
    features = key_features(vit)
    keys = features(picture(0))
    assert keys.shape == (17, 16)  # a class token and 4 x 4 patches
    assert structure_distance(picture(0), picture(0), features) == 0
    assert structure_distance(picture(0), picture(1), features) > 0


def test_folders_without_a_model_are_named(tmp_path: Path, clip: Path) -> None:
    with pytest.raises(ValueError, match=r"folder='.*' holds no model with processor for transformers to open"):
        text_judge(tmp_path)
    Path(tmp_path / "config.json").write_text((clip / "config.json").read_text())
    with pytest.raises(ValueError, match="holds no model"):
        key_features(tmp_path)
