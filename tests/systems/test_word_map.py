"""Attention to words, against the whole map in float64, on tiny models of the real classes; masks from it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.utils import counters

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.errors import SelectorError, StateError
from saccade.core.rows import Rows
from saccade.core.site import Where, at
from saccade.mechanisms.key_columns import watched
from saccade.papers.consistedit import ConsistEdit
from saccade.systems.word_map import WordMap, edit_mask, smoothed
from tests.hosts.stand_ins import Looking, looking
from tests.hosts.tiny import BY_NAME, output

pytestmark = pytest.mark.host
EVERY = Where(kinds=("joint", "cross"))
WORDS = {"one": (1,), "two": (0, 3)}
HOSTS = ("flux", "sd3", "cogvideox", "hunyuan_video", "qwen_image")
CROSS = ("wan", "pixart")


@dataclass
class Maps:
    """The same by materialising every map, in float64: means over heads of the text columns, by site."""

    over: str = "all keys"
    found: list[Tensor] = field(default_factory=list)

    def look(self, call: AttentionCall) -> None:
        queries, text = call.layout_q.span("image"), call.layout_k.span(call.layout_k.of("text")[0].name)
        scores = call.q.double() @ call.k.double().mT * call.scale
        if call.bias is not None:
            scores = scores + call.bias.materialize(call.q.shape[2], call.k.shape[2])
        if call.mask is not None:
            scores = scores.masked_fill(~call.mask.materialize(call.layout_q, call.layout_k), -torch.inf)
        whole = scores.softmax(-1)[..., text] if self.over == "all keys" else scores[..., text].softmax(-1)
        self.found.append(whole[:, :, queries].mean(1).unflatten(1, call.layout_q.image.grid or ()))

    def system(self) -> Looking:
        return looking(self.look)

    def heat(self, tokens: tuple[int, ...]) -> Tensor:
        return sum(self.found[1:], start=self.found[0])[..., list(tokens)].sum(-1) / len(self.found)


@pytest.mark.parametrize("over", ["all keys", "text keys"])
@pytest.mark.parametrize("name", HOSTS + CROSS)
def test_the_heat_is_the_mean_of_the_whole_maps(name: str, over: Any) -> None:
    model, inputs = BY_NAME[name].build()
    where = at(kind="cross") if name in CROSS else at(kind="joint")
    maps, words = Maps(over), WordMap(tokens=WORDS, over=over, where=EVERY)
    with attach(model, words, maps.system(), where=where) as run:
        output(model, inputs)
        heat = words.heat(run.state)
    for word, tokens in WORDS.items():
        torch.testing.assert_close(heat[word].double(), maps.heat(tokens), atol=1e-6, rtol=1e-5)


def test_it_averages_over_steps() -> None:
    model, inputs = BY_NAME["flux"].build()
    maps, words = Maps(), WordMap(tokens=WORDS, where=EVERY)
    with attach(model, words, maps.system()) as run:
        for time in (0.9, 0.5, 0.2):
            output(model, {**inputs, "timestep": torch.full((2,), time)})
        heat = words.heat(run.state)["two"]
    torch.testing.assert_close(heat.double(), maps.heat((0, 3)), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", HOSTS)
def test_the_mutual_heat_is_the_mean_of_both_blocks_of_the_whole_maps(name: str) -> None:
    """Padded text included: the host's own mask is part of the map, and a padded word attends as its row does."""
    model, inputs = BY_NAME[name].build()
    found: list[Tensor] = []

    def look(call: AttentionCall) -> None:
        image, text = call.layout_q.span("image"), call.layout_k.span(call.layout_k.of("text")[0].name)
        scores = call.q.double() @ call.k.double().mT * call.scale
        if call.mask is not None:
            scores = scores.masked_fill(~call.mask.materialize(call.layout_q, call.layout_k), -torch.inf)
        whole = scores.softmax(-1)
        both = (whole[:, :, image, text] + whole[:, :, text, image].mT) / 2
        found.append(both.mean(1).unflatten(1, call.layout_q.image.grid or ()))

    words = WordMap(tokens=WORDS, mutual=True, where=EVERY)
    with attach(model, words, looking(look), where=at(kind="joint")) as run:
        output(model, inputs)
        heat = words.heat(run.state)
    for word, tokens in WORDS.items():
        expected = sum(found[1:], start=found[0])[..., list(tokens)].mean(-1) / len(found)
        torch.testing.assert_close(heat[word].double(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("held", [1, 50])
def test_mutual_words_of_each_sample_do_not_depend_on_how_sums_are_cut(
    held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = BY_NAME["flux"].build()
    monkeypatch.setattr("saccade.ops.columns.HELD", held)
    each, first, second = (WordMap(tokens={"it": t}, mutual=True) for t in ([(1, 2), (5,)], (1, 2), (5,)))
    heats = []
    for words in (each, first, second):
        with attach(model, words, rows=Rows(("cond", "cond"), (0, 1))) as run:
            output(model, inputs)
            heats.append(words.heat(run.state)["it"])
    torch.testing.assert_close(heats[0], torch.stack((heats[1][0], heats[2][1])))


def test_mutual_watching_is_for_words_and_image_in_one_sequence() -> None:
    model, inputs = BY_NAME["wan"].build()
    with pytest.raises(ValueError, match="hold no text, so words attend to nothing here; watch joint sites"):
        with attach(model, WordMap(tokens=WORDS, mutual=True), where=at(kind="cross")):
            output(model, inputs)
    wrong: tuple[dict[str, Any], ...] = ({"mutual": True, "over": "text keys"}, {"role": "target"})
    for options in wrong:
        with pytest.raises(ValueError, match="role= for mutual=True"):
            WordMap(tokens=WORDS, **options)


@pytest.mark.parametrize("name", ["flux", "sd3", "cogvideox"])
def test_watching_changes_nothing(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    plain = output(model, inputs)
    with attach(model, WordMap(tokens=WORDS, where=EVERY)):
        assert torch.equal(output(model, inputs), plain)


def test_every_sample_may_have_its_own_positions() -> None:
    model, inputs = BY_NAME["flux"].build()
    each, first, second = (WordMap(tokens={"it": t}) for t in ([(1, 2), (5,)], (1, 2), (5,)))
    heats = []
    for words in (each, first, second):
        with attach(model, words, rows=Rows(("cond", "cond"), (0, 1))) as run:
            output(model, inputs)
            heats.append(words.heat(run.state)["it"])
    torch.testing.assert_close(heats[0], torch.stack((heats[1][0], heats[2][1])))


def test_only_conditional_and_source_rows_are_kept() -> None:
    rows = Rows.of("source", "target", samples=2).under("uncond", "cond")
    assert watched(rows, 8) == [4, 5]
    assert watched(Rows.of("uncond", "cond"), 2) == [1] and watched(None, 3) == [0, 1, 2]
    assert watched(Rows.of("target", samples=2), 2) == [0, 1]
    model, inputs = BY_NAME["sd3"].build()
    words = WordMap(tokens=WORDS)
    heats = []
    for given_rows in (None, Rows.of("uncond", "cond")):
        with attach(model, words, rows=given_rows) as run:
            output(model, inputs)
            heats.append(words.heat(run.state)["one"])
    assert torch.equal(heats[1], heats[0][1:])


def test_a_mask_from_a_source_pass_drives_an_edit() -> None:
    model, inputs = BY_NAME["wan"].build()
    inputs["hidden_states"][1] = inputs["hidden_states"][0]
    words = WordMap(tokens=WORDS)
    with attach(model, words, where=at(kind="cross")) as run:
        plain = output(model, inputs)
        mask = edit_mask(words.heat(run.state)["one"][:1], 0.5)
    assert mask.shape == (1, 3, 2, 3) and mask.any() and not mask.all()
    with attach(model, ConsistEdit(mask=mask), rows=Rows.of("source", "target")):
        out = output(model, inputs)
    assert torch.equal(out[0], plain[0]) and not torch.equal(out[1], plain[1])


@given(scale=st.floats(0.01, 100), shift=st.floats(-10, 10), seed=st.integers(0, 50))
def test_the_mask_depends_on_neither_scale_nor_offset(scale: float, shift: float, seed: int) -> None:
    heat = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    same = edit_mask(heat) == edit_mask(heat * scale + shift)
    spread = heat.amax((-2, -1), keepdim=True) - heat.amin((-2, -1), keepdim=True)
    near = ((heat - heat.amin((-2, -1), keepdim=True)) / spread - 0.1).abs() < 1e-3  # where the epsilon may decide
    assert (same | near).all()


def test_the_mask_stretches_each_frame_by_itself() -> None:
    heat = torch.tensor([[[0.0, 1.0, 0.05]], [[10.0, 10.2, 10.03]]])
    assert edit_mask(heat).tolist() == [[[False, True, False]], [[False, True, True]]]
    assert not edit_mask(torch.ones(2, 2)).any()
    with pytest.raises(ValueError, match=r"threshold=1 must be in \[0, 1\)"):
        edit_mask(heat, 1)


@pytest.mark.slow
@pytest.mark.timing  # alone, since it counts what the process allocates
def test_memory_follows_the_words_and_not_the_map() -> None:
    from saccade.models.random_flux import flux

    model, inputs = flux(text=512, height=64, width=64, heads=2, layers=1)

    def peak(run: Callable[[], Any]) -> int:
        with torch.profiler.profile(profile_memory=True) as found, torch.no_grad():
            run()
        held = highest = 0
        for event in found.profiler.kineto_results.events():  # type: ignore[union-attr]
            if event.name() == "[memory]":
                held += event.nbytes()
                highest = max(highest, held)
        return highest

    plain = peak(lambda: model(**inputs))
    with attach(model, WordMap(tokens={"it": (3, 4)})):
        watching = peak(lambda: model(**inputs))
    assert plain > 0 and watching < 1.5 * plain


@pytest.mark.compile
def test_compiled_agrees_with_eager() -> None:
    torch._dynamo.reset()
    counters.clear()
    model, inputs = BY_NAME["flux"].shallow()
    words = WordMap(tokens=WORDS)
    heats = []
    for outer in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        with attach(outer, words) as run:
            for time in (0.9, 0.5, 0.2, 0.1):
                output(outer, {**inputs, "timestep": torch.full((2,), time)})  # type: ignore[arg-type]
            heats.append(words.heat(run.state)["two"])
    torch.testing.assert_close(heats[1], heats[0], rtol=1e-5, atol=1e-6)
    assert counters["stats"]["unique_graphs"] <= 3  # the first two steps find less state than later ones


@pytest.mark.bad_input
def test_bad_input_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="tokens={} names no word to watch"):
        WordMap(tokens={})
    with pytest.raises(ValueError, match=r"tokens\['a'\]=\(\) must be positions within the text"):
        WordMap(tokens={"a": ()})
    with pytest.raises(ValueError, match=r"tokens\['a'\]=\(-1,\) must be positions"):
        WordMap(tokens={"a": (-1,)})
    with pytest.raises(ValueError, match=r"tokens\['b'\] are for 2 samples, others for 3; give all as many"):
        WordMap(tokens={"a": ((1,), (2,), (3,)), "b": ((1,), (2,))})
    model, inputs = BY_NAME["flux"].build()
    words = WordMap(tokens={"a": (6,)})
    with pytest.raises(
        ValueError, match=r"token 6 of a watched word is not in the text; the keys are text 6 \| image 16"
    ):
        with attach(model, words):
            output(model, inputs)
    with (
        attach(model, words) as run,
        pytest.raises(StateError, match="no site has watched the words yet; run the pipe"),
    ):
        words.heat(run.state)
    with attach(model, WordMap(tokens={"a": ((1,), (2,), (3,))})), pytest.raises(ValueError, match="for 3 samples"):
        output(model, inputs)
    with pytest.raises(SelectorError, match="of 'word_map' matches no attached site"):
        attach(BY_NAME["wan"].build()[0], words)


@given(side=st.sampled_from([1, 3, 5]), value=st.floats(-2, 2))
def test_smoothing_is_a_mean_over_squares(side: int, value: float) -> None:
    flat = torch.full((2, 6, 7), value)
    torch.testing.assert_close(smoothed(flat, side), flat)
    heat = torch.randn(2, 9, 9, generator=torch.Generator().manual_seed(side))
    reach = side // 2
    window = heat[:, 4 - reach : 5 + reach, 4 - reach : 5 + reach]
    torch.testing.assert_close(smoothed(heat, side)[:, 4, 4], window.mean((1, 2)))
