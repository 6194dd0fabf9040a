"""What attention did, against whole maps in float64, on tiny models of the real classes."""

from dataclasses import dataclass, field
from math import log
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saccade.analysis import AttentionRecord, RoleRules
from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.errors import SelectorError, StateError
from saccade.core.site import at
from saccade.mechanisms.sampled_rows import spread
from saccade.papers.clear import Clear
from saccade.systems import AttentionRecorder, Dense
from saccade.systems.attention_recorder import ALL_SITES
from tests.hosts.stand_ins import Looking, looking
from tests.hosts.tiny import BY_NAME, output

pytestmark = pytest.mark.host
WORDS = {"one": (1,), "two": (0, 2)}
HOSTS = ("flux", "sd3", "cogvideox", "hunyuan_video", "qwen_image", "wan", "pixart", "dit", "vit", "llama", "llava")


@dataclass
class Maps:
    """Whole maps of every site, float64."""

    found: dict[str, tuple[AttentionCall, Tensor]] = field(default_factory=dict)

    def look(self, call: AttentionCall) -> None:
        k = call.k.double().repeat_interleave(call.q.shape[1] // call.k.shape[1], 1)
        scores = call.q.double() @ k.mT * call.scale
        if call.bias is not None:
            scores = scores + call.bias.materialize(call.q.shape[2], call.k.shape[2])
        if call.mask is not None:
            scores = scores.masked_fill(~call.mask.materialize(call.layout_q, call.layout_k), -torch.inf)
        self.found[call.site.name] = call, scores.softmax(-1)

    def system(self) -> Looking:
        return looking(self.look)


def recorded(name: str, recorder: AttentionRecorder, *systems: Any) -> tuple[AttentionRecord, Maps]:
    model, inputs = BY_NAME[name].build()
    maps = Maps()
    with attach(model, recorder, *systems, maps.system(), where=ALL_SITES) as run:
        output(model, inputs)
        return recorder.read(run), maps


@pytest.mark.parametrize("name", HOSTS)
def test_rows_say_what_whole_maps_say(name: str) -> None:
    record, maps = recorded(name, AttentionRecorder(queries=5, columns=4))
    for site in record.sites:
        call, whole = maps.found[site.site.name]
        queries = spread(_queries(call), 5)
        rows = whole[:, :, queries]
        n, m = call.q.shape[2], call.k.shape[2]
        _same(site.values["entropy"][0], -torch.special.xlogy(rows, rows).sum(-1).mean(-1))
        _same(site.values["top"][0], rows.mean(2).amax(-1))
        _same(site.values["received"][0], rows.mean((1, 2)))
        _same(site.values["shares"][0].sum(-1), torch.ones(rows.shape[:2]))
        _same(site.values["tiles"][0].sum(-1), torch.ones(len(whole), len(queries)))
        spans = [call.layout_k.span(segment.name) for segment in call.layout_k.segments]
        _same(site.values["shares"][0], torch.stack([rows[..., span].sum(-1).mean(-1) for span in spans], -1))
        if n == m and site.site.kind != "cross":
            _same(site.values["own"][0], rows[:, :, torch.arange(len(queries)), queries].mean(-1))
            before = [rows[:, :, i, q - 1] if q else torch.zeros(rows.shape[:2]) for i, q in enumerate(queries)]
            _same(site.values["before"][0], torch.stack(before, -1).double().mean(-1))


@pytest.mark.parametrize("each_head", [False, True])
@pytest.mark.parametrize("direction", ["to", "from"])
@pytest.mark.parametrize("name", HOSTS)
def test_words_are_columns_or_rows_of_the_whole_maps(name: str, direction: Any, each_head: bool) -> None:
    record, maps = recorded(name, AttentionRecorder(words=WORDS, direction=direction, each_head=each_head))
    for site in record.sites:
        call, whole = maps.found[site.site.name]
        layout = call.layout_k if direction == "to" else call.layout_q
        if not layout.text_n:
            assert "words" not in site.values
            continue
        text = layout.is_("text").nonzero()[:, 0]
        for number, tokens in enumerate(WORDS.values()):
            own = text[list(tokens)]
            want = whole[:, :, _queries(call)][..., own].sum(-1) if direction == "to" else whole[:, :, own].mean(2)
            want = want if direction == "to" else want[..., _keys(call)]
            _same(site.values["words"][0, number], want if each_head else want.mean(1, keepdim=True))


def test_a_mask_counts() -> None:
    record, maps = recorded("flux", AttentionRecorder(words=WORDS, queries=7), Clear(radius=1))
    for site in record.sites:
        call, whole = maps.found[site.site.name]
        rows = whole[:, :, spread(_queries(call), 7)]
        _same(site.values["entropy"][0], -torch.special.xlogy(rows, rows).sum(-1).mean(-1))
        _same(site.values["words"][0, 0, :, 0], whole[:, :, _queries(call)][..., 1].mean(1))


def test_distance_is_that_of_equal_shares_where_all_pay_alike() -> None:
    model, inputs = BY_NAME["dit"].build()
    for name, parameter in model.named_parameters():
        if "to_q" in name:
            torch.nn.init.zeros_(parameter)
    recorder = AttentionRecorder(queries=4)
    with attach(model, recorder) as run:
        output(model, inputs)
        figures = recorder.read(run).sites[0].figures()
    np.testing.assert_allclose(figures["distance"], 1, atol=1e-5)
    np.testing.assert_allclose(figures["spread"], 1, atol=1e-5)


@pytest.mark.parametrize("name", ["flux", "wan", "llama"])
def test_the_output_stays_what_it_is(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    with attach(model, Dense(kernel="sdpa"), where=ALL_SITES):
        plain = output(model, inputs)
    with attach(model, Dense(kernel="sdpa"), AttentionRecorder(words=WORDS), where=ALL_SITES):
        assert torch.equal(output(model, inputs), plain)


def test_every_step_has_a_row_of_its_own() -> None:
    model, inputs = BY_NAME["flux"].build()
    times = [{**inputs, "timestep": torch.full((2,), 1 - step / 4)} for step in range(4)]
    maps = [_alone(model, given) for given in times[1:]]
    recorder = AttentionRecorder(words=WORDS, where=at(during=(0.25, 1.0)))
    with attach(model, recorder) as run:
        for step, given in enumerate(times):
            run.step(step, of=4)
            output(model, given)
        record = recorder.read(run)
    assert record.steps == (1, 2, 3)
    for step, want in zip(record.steps, maps, strict=True):
        np.testing.assert_allclose(record.map("two", steps=[step]), want, atol=1e-6)
    np.testing.assert_allclose(record.map("two"), np.mean(maps, 0), atol=1e-6)
    with pytest.raises(ValueError, match=r"steps=\[0\] were not recorded; there are \[1, 2, 3\]"):
        record.map("two", steps=[0])


def test_a_long_sequence_goes_in_runs_of_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = recorded("flux", AttentionRecorder(queries=9))
    monkeypatch.setattr("saccade.mechanisms.sampled_rows.HELD", 200)
    parted, _ = recorded("flux", AttentionRecorder(queries=9))
    for a, b in zip(whole.sites, parted.sites, strict=True):
        for name in a.values:
            torch.testing.assert_close(a.values[name], b.values[name], atol=1e-6, rtol=1e-5)


def test_a_text_that_is_written_leaves_its_last_token() -> None:
    model, inputs = BY_NAME["llama"].build()
    recorder = AttentionRecorder(queries=4)
    with attach(model, recorder) as run:
        ids = model.generate(inputs["input_ids"], max_new_tokens=3, do_sample=False, eos_token_id=None)
        site = recorder.read(run).sites[0]
    assert site.queries.n == 1 and site.keys.n == ids.shape[1] - 1
    assert site.values["own"].shape[1] == len(ids) and (site.values["own"] > 0).all()


def test_nothing_of_a_training_is_held() -> None:
    model, inputs = BY_NAME["flux"].build()
    recorder = AttentionRecorder(words=WORDS)
    with attach(model, recorder) as run:
        loss = model(**inputs)[0].square().mean()
        assert not any(value.requires_grad for site in recorder.read(run).sites for value in site.values.values())
        loss.backward()


def test_shares_in_bfloat16_add_up() -> None:
    model, inputs = BY_NAME["flux"].build()
    recorder = AttentionRecorder(words=WORDS, queries=5)
    model = model.to(torch.bfloat16)
    half = {
        k: v.to(torch.bfloat16) if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in inputs.items()
    }
    with attach(model, recorder) as run, torch.no_grad():
        model(**half)
        record = recorder.read(run)
    for site in record.sites:
        assert site.values["words"].dtype == torch.float32
        torch.testing.assert_close(site.values["shares"].sum(-1), torch.ones(1, 2, 2), atol=1e-2, rtol=0)


@pytest.mark.compile
def test_compiled_it_records_the_same() -> None:
    model, inputs = BY_NAME["flux"].build()
    plain = _alone(model, inputs)
    recorder = AttentionRecorder(words=WORDS, queries=3)
    compiled: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    with attach(compiled, recorder) as run, torch.no_grad():
        for step in range(3):
            run.step(step, of=3)
            output(compiled, inputs)
        record = recorder.read(run)
    assert record.steps == (0, 1, 2)
    np.testing.assert_allclose(record.map("two"), plain, atol=1e-5)


@pytest.mark.parametrize(
    "options, said",
    [
        ({}, None),
        ({"queries": -1}, "queries=-1 must be at least 0"),
        ({"columns": 0}, "columns=0 of their map at least 1"),
        ({"queries": 0}, "leave nothing to record"),
        ({"words": {"a": ()}}, r"tokens\['a'\]=\(\) must be positions"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], said: str | None) -> None:
    if said is None:
        assert AttentionRecorder(**options).queries
        return
    with pytest.raises(ValueError, match=said):
        AttentionRecorder(**options)


def test_what_is_not_there_is_refused_by_name() -> None:
    model, inputs = BY_NAME["flux"].build()
    recorder = AttentionRecorder(words=WORDS)
    with attach(model, recorder) as run:
        with pytest.raises(StateError, match="no site has recorded attention yet"):
            recorder.read(run)
        output(model, inputs)
        record = recorder.read(run)
    with pytest.raises(ValueError, match="word='cat' was not recorded; there are one, two"):
        record.map("cat")
    with pytest.raises(ValueError, match="sample=2 was not recorded; there are 2"):
        record.map("one", sample=2)
    with pytest.raises(ValueError, match="head=0 was not recorded; ask for one of 1 with each_head=True"):
        record.map("one", head=0)
    with pytest.raises(SelectorError, match="sites='x' matches none of transformer_blocks.0.attn"):
        record.map("one", sites="x")
    with (
        pytest.raises(ValueError, match="token 99 of a word is not in the text"),
        attach(model, AttentionRecorder(words={"far": (99,)})),
    ):
        output(model, inputs)


def test_roles_are_the_first_reached() -> None:
    names = ("own", "before", "top", "text", "distance", "spread")
    heads = np.array(
        [
            (0.6, 0, 0.4, 0, 0, 0.5),
            (0, 0, 0.4, 0.6, 1, 0.5),
            (0, 0, 0, 0, 0.4, 1),
            (0, 0, 0, 0, 1, 1),
            (0, 0, 0, 0, 1, 0),
        ]
    )
    figures = dict(zip(names, heads.T, strict=True))
    assert RoleRules().roles(figures) == ("own", "sink", "local", "even", "content")
    assert RoleRules(sink=0.5).roles(figures)[1] == "text"
    with pytest.raises(ValueError, match=r"local=2 must be in \[0, 1\]"):
        RoleRules(local=2)


def test_arrays_are_saved_with_what_they_are(tmp_path: Any) -> None:
    record, _ = recorded("flux", AttentionRecorder(words=WORDS, queries=3))
    stored = np.load(record.save(tmp_path / "new" / "a.npz"))
    site = record.sites[0]
    np.testing.assert_array_equal(stored[f"{site.site.name}/words"], site.values["words"])
    assert '"words": ["one", "two"]' in str(stored["about"])
    rows = record.heads()
    assert len(rows) == sum(s.site.heads for s in record.sites)
    assert all(0 <= row["spread"] <= 1 + 1e-6 and row["top_in"] in ("text", "image") for row in rows)
    assert rows[0]["spread"] == pytest.approx(float(site.values["entropy"].mean((0, 1))[0]) / log(site.keys.n))


def _alone(model: Any, inputs: dict[str, Any]) -> Any:
    recorder = AttentionRecorder(words=WORDS, queries=0)
    with attach(model, recorder) as run:
        output(model, inputs)
        return recorder.read(run).map("two")


def _queries(call: AttentionCall) -> slice:
    return call.layout_q.span("image") if call.layout_q.of("image") else slice(0, call.layout_q.n)


def _keys(call: AttentionCall) -> slice:
    return call.layout_k.span("image") if call.layout_k.of("image") else slice(0, call.layout_k.n)


def _same(found: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(found.double(), want.double(), atol=2e-6, rtol=1e-4)
