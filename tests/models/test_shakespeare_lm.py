"""The small language model: its tokenizer, its sizes, and the weights that ship."""

import json
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer
from transformers.models.modernbert.modeling_modernbert import ModernBertForMaskedLM

from saccade.data.text import CHARACTERS, read_text
from saccade.metrics import masked_bound, pseudo_nll
from saccade.models import path
from saccade.models.shakespeare_lm import MASK, PAD, UNKNOWN, ShakespeareLM, character_tokenizer

ROOT = Path(__file__).resolve().parents[2]
MAX_BYTES = 8_000_000
SPEECH = "I thank you, good my lord; and if the king will hear me speak, I'll come to him to-night and tell him all."


@pytest.fixture(scope="module")
def shipped() -> ModernBertForMaskedLM:
    return AutoModelForMaskedLM.from_pretrained(path("shakespeare-lm"))


def test_every_character_is_a_token_and_comes_back() -> None:
    tokenizer = character_tokenizer()
    ids = tokenizer(CHARACTERS).input_ids
    assert len(set(ids)) == len(CHARACTERS)
    assert not set(ids) & {PAD, UNKNOWN, MASK}
    assert tokenizer.decode(ids) == CHARACTERS
    assert tokenizer("z%").input_ids[1] == UNKNOWN


def test_every_layer_sees_all_tokens() -> None:
    torch.manual_seed(0)
    model = ShakespeareLM(hidden=16, layers=2, heads=2, inner=16).model().eval()
    ids = torch.randint(3, 60, (1, 200))
    other = ids.clone()
    other[0, -1] = (ids[0, -1] + 1 - 3) % 60 + 3
    with torch.no_grad():
        assert (model(input_ids=ids).logits[0, 0] != model(input_ids=other).logits[0, 0]).any()
    assert {layer.attn.sliding_window for layer in model.model.layers} == {None}


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"hidden=72 must be a multiple of 2 \* heads=16"):
        ShakespeareLM(hidden=72)


def test_the_shipped_directory_stays_small_and_goes_into_the_wheel() -> None:
    files = [file for file in path("shakespeare-lm").rglob("*") if file.is_file()]
    assert {"config.json", "model.safetensors", "tokenizer.json", "measured.json"} <= {file.name for file in files}
    assert sum(file.stat().st_size for file in files) <= MAX_BYTES
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    ignored = (ROOT / ".gitignore").read_text().split()
    assert wheel == {"packages": ["src/saccade"]}  # whole, save what git ignores
    assert not [file for file in files if any(fnmatch(file.name, pattern) for pattern in ignored)]


@pytest.mark.host
def test_plain_transformers_loads_the_shipped_model(shipped: ModernBertForMaskedLM) -> None:
    tokenizer = AutoTokenizer.from_pretrained(path("shakespeare-lm"))
    assert type(shipped) is ModernBertForMaskedLM
    assert shipped.dtype == torch.float32
    assert shipped.config.to_dict().items() >= {"num_hidden_layers": 4, "num_attention_heads": 8}.items()
    assert (tokenizer.mask_token_id, tokenizer.pad_token_id) == (MASK, PAD)
    assert tokenizer.decode(tokenizer(SPEECH).input_ids) == SPEECH


@pytest.mark.host
def test_english_is_likelier_than_its_letters_in_another_order(shipped: ModernBertForMaskedLM) -> None:
    ids = torch.tensor(character_tokenizer()(SPEECH).input_ids)
    mixed = ids[torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))]
    english, letters = pseudo_nll(shipped, torch.stack((ids, mixed)), mask_id=MASK).tolist()
    frequencies = json.loads((path("shakespeare-lm") / "measured.json").read_text())["measured"]["nats"]["frequencies"]
    assert english < frequencies / 2 < frequencies < letters


@pytest.mark.host
@pytest.mark.slow
def test_the_measured_bound_is_that_of_the_shipped_weights(shipped: ModernBertForMaskedLM, data_root: Path) -> None:
    measured = json.loads((path("shakespeare-lm") / "measured.json").read_text())["measured"]
    tokenizer, context = character_tokenizer(), measured["context"]
    ids = torch.tensor(tokenizer(read_text(split="held-out"), verbose=False).input_ids)
    windows = ids[: 12 * context].view(12, context)
    found = masked_bound(shipped, windows, mask_id=MASK, draws=8, generator=torch.Generator().manual_seed(1))
    four_sigma = 4 * (float(found.std()) / 12**0.5 + measured["bound_error"])
    assert abs(float(found.mean()) - measured["nats"]["bound"]) < four_sigma
