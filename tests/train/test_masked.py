"""The masked stage and the recipe of the language model, from text to a folder that plain transformers loads."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from saccade.data.text import read_text
from saccade.models.shakespeare_lm import MASK, ShakespeareLM, character_tokenizer
from saccade.train.loop import Fit
from saccade.train.masked import MaskedLoss, MaskedStage, MaskedTask
from saccade.train.optimisers import Optim
from saccade.train.shakespeare import Evaluation, ShakespeareRecipe

pytestmark = [pytest.mark.host, pytest.mark.slow]
MODEL = ShakespeareLM(hidden=32, layers=1, heads=2, inner=32, context=32)
STAGE = MaskedStage(
    fit=Fit(steps=40, log_every=1, save_every=20, decay=0.5, optim=Optim(lr=1e-2, muon_lr=1e-2)),
    lengths=(16, 32), tokens=512, compile=False,
)  # fmt: skip
RECIPE = ShakespeareRecipe(
    source="captions", model=MODEL, train=STAGE,
    evaluation=Evaluation(windows=4, draws=2, prompt="a", length=8, steps=4, block=4),
)  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lm")
    RECIPE.run(folder)
    return folder


def task(prompted: float) -> MaskedTask:
    ids = torch.tensor(character_tokenizer()(read_text("captions"), verbose=False).input_ids)
    return MaskedTask(MODEL.model(), ids, MASK, MaskedStage(lengths=(16, 32), tokens=512, prompted=prompted))


def test_the_loss_is_the_mean_over_masked_tokens_of_each_sequence() -> None:
    torch.manual_seed(0)
    loss = MaskedLoss(MODEL.model(), MASK, compiled=False).eval()
    ids = torch.randint(3, 60, (2, 6))
    masked = torch.tensor([[True, False, True, False, False, False], [False, True, True, True, True, True]])
    logits = loss.model(input_ids=ids.masked_fill(masked, MASK)).logits.double()
    nll = -logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    found = loss({"ids": ids, "masked": masked})
    wanted = (nll[0][masked[0]].mean() + nll[1][masked[1]].mean()) / 2
    torch.testing.assert_close(found["loss"].double(), wanted, rtol=1e-5, atol=0)
    torch.testing.assert_close(found["per_masked"].double(), nll[masked].mean(), rtol=1e-5, atol=0)


def test_the_random_state_alone_decides_a_batch() -> None:
    first, second, other = (task(0.5).batch(np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["ids"].flatten(), other["ids"].flatten())


def test_openings_are_never_masked() -> None:
    never, always = (task(share).batch(np.random.default_rng(0))["masked"] for share in (0.0, 1.0))
    assert never[:, 0].any()
    assert not always[:, 0].any()
    assert always.any(1).all()


def test_training_lowers_the_loss(out: Path) -> None:
    losses = [json.loads(line)["loss"] for line in (out / "train" / "loss.jsonl").read_text().splitlines()]
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.8 * losses[0]


def test_plain_transformers_loads_what_was_trained(out: Path) -> None:
    model = AutoModelForMaskedLM.from_pretrained(out / "model")
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    trained = MODEL.model()
    average = torch.load(out / "train" / "checkpoint.pt", weights_only=True)["average"]
    MaskedLoss(trained, MASK, compiled=False).load_state_dict(average)
    assert model.dtype == torch.float32
    assert all(
        torch.equal(value, trained.half().float().state_dict()[key]) for key, value in model.state_dict().items()
    )
    assert model.decoder.weight is model.model.embeddings.tok_embeddings.weight
    assert tokenizer.mask_token_id == MASK
    assert tokenizer.decode(tokenizer("To be,\n or  not!").input_ids) == "To be,\n or  not!"
    assert tokenizer(["ab", "a"], padding=True).attention_mask == [[1, 1], [0, 1]]


def test_measurements_name_their_circumstances(out: Path) -> None:
    measured = json.loads((out / "model" / "measured.json").read_text())["measured"]
    assert (measured["source"], measured["split"], measured["windows"], measured["context"]) == (
        "captions",
        "held-out",
        4,
        32,
    )
    assert measured["nats"]["bound"] < measured["nats_of_uniform"]
    sample = measured["sample"]
    assert sample["text"].startswith("a")
    assert len(sample["text"]) == 9


def test_an_unfinished_training_exports_its_newest_checkpoint(out: Path, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "checkpoint.pt").write_bytes((out / "train" / "checkpoint.pt").read_bytes())
    again, first = (
        AutoModelForMaskedLM.from_pretrained(place) for place in (RECIPE.run(tmp_path, ("export",)), out / "model")
    )
    assert all(torch.equal(value, first.state_dict()[key]) for key, value in again.state_dict().items())
    with pytest.raises(FileNotFoundError, match="holds no training; run the stage 'train' first"):
        RECIPE.run(tmp_path / "empty", ("export",))


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"lengths=\(600,\) must be one or more lengths between 1 and tokens=512"):
        MaskedStage(lengths=(600,), tokens=512)
    with pytest.raises(ValueError, match=r"ids holds 20 tokens, fewer than the longest of lengths=\(16, 32\)"):
        MaskedTask(MODEL.model(), torch.zeros(20, dtype=torch.long), MASK, STAGE)
    with pytest.raises(ValueError, match="windows=1 must be at least 2; their spread gives the error"):
        Evaluation(windows=1)
