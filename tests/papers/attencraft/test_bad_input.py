"""Whatever cannot be learned is an error, with its mend, before anything is trained or the pipeline is touched."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import saccade
from saccade.core.errors import SelectorError, StateError
from saccade.core.projections import LowRankTerm
from saccade.mechanisms.low_rank import LowRank
from saccade.papers.attencraft import (
    AttenCraft,
    AttenCraftRecipe,
    Concept,
    Customisation,
    PriorPictures,
    customise,
    load_concepts,
)
from saccade.papers.attencraft.concept_file import FILE, Learned
from saccade.papers.attencraft.concepts import Prompts
from saccade.papers.attencraft.system import ALL_SITES
from saccade.papers.attencraft.training import Weights
from saccade.train.loop import Fit
from tests.papers.attencraft.test_customise import FIT, OPTIONS, TWO, made
from tests.papers.attencraft.tiny_pipes import picture, tiny_pixart, tiny_sd
from tests.tiny_flux import tiny_flux

pytestmark = [pytest.mark.host, pytest.mark.bad_input]
ONE = TWO[:1]


@pytest.fixture(scope="module")
def flux() -> Any:
    return tiny_flux()


@pytest.fixture
def untouched(flux: Any, tmp_path: Path) -> Iterator[Any]:
    """The pipeline, which must know no more words afterwards, and no folder may have appeared."""
    before = len(flux.tokenizer), len(flux.tokenizer_2), flux.text_encoder.get_input_embeddings().weight.shape
    yield flux
    assert (len(flux.tokenizer), len(flux.tokenizer_2), flux.text_encoder.get_input_embeddings().weight.shape) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("concepts", "message"),
    [
        ((), r"concepts=\(\) name nothing to learn; give at least one Concept"),
        ((*ONE, *ONE), "token='<new1>' stands for two concepts; give each its own"),
        ((Concept(token="red", word="blue"),), "token='red' is in the vocabulary of tokenizer; choose another"),
        (
            (Concept(token="<new1>", word="red circle"),),
            "word='red circle' is 2 tokens of tokenizer; choose a word that",
        ),
        ((Concept(token="<new1>", word="zebra"),), "word='zebra' is unknown to tokenizer; choose a word that is one"),
    ],
)
def test_concepts(untouched: Any, tmp_path: Path, concepts: tuple[Concept, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        customise(untouched, picture(), concepts, folder=tmp_path, options=OPTIONS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"template": "a photo"}, "template='a photo' must hold {} once, where the concepts come"),
        ({"template": "{} of {}"}, "template='{} of {}' must hold {} once"),
        ({"picture": picture(side=40)[:36]}, "height=36 must be a multiple of 8 pixels"),
        ({"picture": picture() * 300}, r"must be \(h w 3\), bytes or floats in \[0, 1\]"),
        (
            {"options": replace(OPTIONS, weights=Weights(ring=4))},
            "ring=4 must be 0 or more and leave something of 8 x 8",
        ),
        ({"options": replace(OPTIONS, background="sky")}, "word='sky' is not in the prompt 'a photo of <new1>'"),
    ],
)
def test_picture_and_prompts(untouched: Any, tmp_path: Path, given: dict[str, Any], message: str) -> None:
    chosen = {"picture": picture(), "options": OPTIONS, **given}
    with pytest.raises(ValueError, match=message):
        customise(untouched, concepts=ONE, folder=tmp_path, **chosen)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compat": "offical"}, "compat='offical' must be 'official', or None"),
        ({"rank": 0}, "rank=0 must be at least 1, or None for whole matrices"),
        ({"theta": -0.1}, "theta=-0.1 must be 0 or more"),
        ({"early": 0.0}, r"early=0.0 must be in \(0, 1\]"),
        ({"batch": 0}, "batch=0 must be at least 1 row of the picture"),
        ({"scheme": "even"}, "scheme='even' is unknown; choose one of uniform, reweighted, full"),
        ({"every": 0}, "every=0 must be at least 1 step"),
        ({"ssim": 2.0}, r"ssim=2.0 must be in \[-1, 1\]"),
        ({"fit": Fit(steps=1, accumulate=2)}, "fit.accumulate=2 cuts a batch of one prompt; leave it at 1"),
    ],
)
def test_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Customisation(**options)


def test_words_of_concepts_and_priors() -> None:
    with pytest.raises(ValueError, match="token='new one' must be one word without spaces"):
        Concept(token="new one", word="cat")
    with pytest.raises(ValueError, match="phrase='a cat' must hold its token '<new1>' once; write it there"):
        Concept(token="<new1>", word="cat", phrase="a cat")
    with pytest.raises(ValueError, match="pictures=-1 and steps=50 must be 0 and 1 at least"):
        PriorPictures(pictures=-1)
    with pytest.raises(ValueError, match="token='<New1>' has capitals, and PixArtAlphaPipeline reads none"):
        customise(tiny_pixart(), picture(), (Concept(token="<New1>", word="red"),), folder=Path("nowhere"))


def test_a_pipeline_that_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pipe=object is not among FluxPipeline, StableDiffusion3Pipeline, PixArt"):
        customise(object(), picture(), ONE, folder=tmp_path)


def test_two_masks_of_one_word_stop_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"two masks are assigned one word; change theta or the timestep(.|\n)*mask <new2>"
    ):
        made(tiny_flux(), tmp_path, theta=2.0).train()
    assert not (tmp_path / "train").exists()


def test_a_size_without_the_grids_names_those_there_are(tmp_path: Path) -> None:
    learner = made(tiny_sd(), tmp_path)
    learner.learner.grids = (16, 16), (32, 32)
    with pytest.raises(
        StateError, match="no site has a grid of 16 x 16 for maps of words; there are 2 x 2, 4 x 4, 8 x 8"
    ):
        learner.train()
    assert not (tmp_path / "train").exists()


def test_a_processor_that_hides_its_attention_is_named(tmp_path: Path) -> None:
    from diffusers.models.attention_processor import AttnProcessor

    pipe = tiny_sd()
    pipe.unet.set_attn_processor(AttnProcessor())
    with pytest.raises(Exception, match="AttnProcessor") as error:
        made(pipe, tmp_path)
    assert isinstance(error.value, saccade.SaccadeError)


def test_files_of_another_kind_or_pipeline(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, other)
    with pytest.raises(ValueError, match="names no concepts in its metadata, so it is of another kind"):
        load_concepts(tiny_flux(), other)
    with pytest.raises(ValueError, match="is no file of concepts; learn the concepts"):
        load_concepts(tiny_flux(), tmp_path / FILE)
    site = "transformer_blocks.0.attn"
    terms = LowRank({(site, "add_k_proj"): LowRankTerm(torch.zeros(2, 64), torch.zeros(64, 2))})
    wide = Learned(terms=terms, rows={"": torch.zeros(1, 7)}, concepts=ONE, said={})
    wide.save(tmp_path / "wide.safetensors")
    with pytest.raises(ValueError, match="has rows of 7 numbers for text_encoder, which takes 32; give the pipeline"):
        load_concepts(tiny_flux(), tmp_path / "wide.safetensors")
    more = Learned(terms=terms, rows={"": torch.zeros(2, 32)}, concepts=ONE, said={})
    more.save(tmp_path / "more.safetensors")
    with pytest.raises(ValueError, match="has 2 rows tokens for 1 concepts"):
        load_concepts(tiny_flux(), tmp_path / "more.safetensors")


def test_words_that_a_pipeline_has_are_not_loaded_twice(tmp_path: Path) -> None:
    pipe = tiny_flux()
    site = "transformer_blocks.0.attn"
    terms = LowRank({(site, "add_k_proj"): LowRankTerm(torch.zeros(2, 64), torch.zeros(64, 2))})
    Learned(terms=terms, rows={"": torch.zeros(1, 32)}, concepts=ONE, said={}).save(tmp_path)
    load_concepts(pipe, tmp_path)
    with pytest.raises(ValueError, match="token='<new1>' is in the vocabulary of tokenizer"):
        load_concepts(pipe, tmp_path)
    assert json.dumps(sorted(load_file(tmp_path / FILE))) == json.dumps(
        ["tokens", f"transformer.{site}.add_k_proj.lora_A.weight", f"transformer.{site}.add_k_proj.lora_B.weight"]
    )


def test_terms_of_another_model_are_refused_when_attached(flux: Any) -> None:
    terms = LowRank({("blocks.9.attn", "to_k"): LowRankTerm(torch.zeros(2, 8), torch.zeros(8, 2))})
    with pytest.raises(
        SelectorError, match="has terms for 'blocks.9.attn', which is not attached; give the model they"
    ):
        saccade.attach(flux, AttenCraft(learned=terms))
    pixart = tiny_pixart()
    site = "transformer_blocks.0.attn2"
    cross = LowRank({(site, "to_k"): LowRankTerm(torch.zeros(2, 32), torch.zeros(32, 2))})
    with pytest.raises(SelectorError, match=r"where=at\(kind='cross'\)"):
        saccade.attach(pixart, AttenCraft(learned=cross))
    with saccade.attach(pixart, AttenCraft(learned=cross), where=ALL_SITES):
        pass


def test_phrases_of_no_concept_and_a_picture_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="phrases name '<new3>', which is not among concepts={}; add it"):
        AttenCraftRecipe(phrases={"<new3>": "a <new3>"}).run(tmp_path)
    with pytest.raises(ValueError, match="picture='nowhere.png' is missing"):
        AttenCraftRecipe(picture="nowhere.png", concepts={"<new1>": "red"}).run(tmp_path)


def test_the_recipe_learns_the_scene_of_the_bundled_model(tmp_path: Path) -> None:
    train = Customisation(fit=replace(FIT, steps=1), prior=PriorPictures(pictures=1, prompt="a red circle", steps=1))
    assert AttenCraftRecipe(train=train).run(tmp_path) == tmp_path / FILE
    assert (tmp_path / FILE).is_file()


def test_the_background_is_the_start_the_end_or_words(flux: Any) -> None:
    plain = Prompts(pipe=flux, concepts=(Concept(token="circle", word="red"),), template="a {} on white", length=16)
    assert plain.start == () and plain.bare((0,)) == ((1,), (15,))
    assert replace(plain, background="white").bare((0,)) == ((1,), (3,))
    assert replace(plain, pipe=tiny_sd(), length=None).bare((0,)) == ((2,), (0,))
    assert replace(plain, pipe=tiny_pixart(), masks_pads=True).bare((0,)) == ((1,), (3,))
    described = replace(plain, concepts=(Concept(token="circle", word="red", phrase="red circle"),))
    assert described.described((0,)) == ((1, 2), (15,)) and described.bare((0,))[0] == (2,)
