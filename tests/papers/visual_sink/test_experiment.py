"""The experiment's pictures, its sink made by hand, and its rows, as far as nothing must be trained for them."""

import numpy as np
import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.experiments import Results
from saccade.papers.visual_sink.asked import (
    ANSWER,
    FIGURES,
    LAYOUT,
    PATCHES,
    QUESTION,
    VOCABULARY,
    Answering,
    asked,
    layer_inputs,
)
from saccade.papers.visual_sink.experiment import Settings, knockout, loudest, planted, scatter, sinks
from saccade.papers.visual_sink.planted import Surplus, loud_tokens
from saccade.papers.visual_sink.sections import ALL, CHOSEN, CLEAN, NOTHING, PLANTED, RANDOM, SINKS, on_background
from saccade.papers.visual_sink.sinks import sink_values

SAID = Settings(questions=6)


@pytest.fixture(scope="module")
def model() -> Answering:
    torch.manual_seed(0)
    return Answering(32, 4).eval()


def test_answers_are_those_of_the_pictures() -> None:
    given = asked(np.random.default_rng(0), 60)
    assert given.ids.shape == (60, LAYOUT.n) and int(given.answers.max()) < VOCABULARY
    for ids, answer, background in zip(given.ids, given.answers, given.background, strict=True):
        levels = (ids[1 : 1 + PATCHES] % 4).view(8, 8)
        rows, columns = (levels.amax(axis).nonzero().flatten() for axis in (1, 0))
        top, left = int(rows[0]), int(columns[0])
        seen = (levels[top : top + 5, left : left + 5] > 0).long()
        (figure,) = [i for i in range(4) if torch.equal(FIGURES[i], seen)]
        said = (figure, 4 + int(levels.max()) - 1, 7 + top)[int(ids[-1]) - QUESTION]
        assert int(answer) == ANSWER + said and torch.equal(background.view(8, 8), levels == 0)


def test_a_token_is_made_loud_and_its_key_raised(model: Answering) -> None:
    given, places = asked(np.random.default_rng(1), 2), torch.tensor([5, 40])
    host = model.host
    plain = layer_inputs(host, given)
    with loud_tokens(host.model.layers[2], places, channel=7, times=50):
        found: list[Tensor] = []
        hook = host.model.layers[2].register_forward_pre_hook(lambda m, args: found.append(args[0]))
        layer_inputs(host, given)
        hook.remove()
    values = sink_values(found[0], (7,))
    assert ((values > 5) == (torch.arange(LAYOUT.n) == places[:, None])).all()
    torch.testing.assert_close(layer_inputs(host, given), plain)
    with attach(host, Surplus(places=(5, 40), score=30.0), layout=LAYOUT), torch.no_grad():
        raised = host(given.ids, use_cache=False).logits
    assert not torch.allclose(raised, host(given.ids, use_cache=False).logits, atol=1e-4)


def test_every_table_has_its_arms(model: Answering) -> None:
    rng = np.random.default_rng(2)
    given = asked(rng, SAID.questions)
    inputs = layer_inputs(model.host, given)
    channel = loudest(inputs)
    values = torch.stack([sink_values(x, (channel,)) for x in inputs])
    rows = [*sinks(values, given, SAID.share), *scatter(model.host, values[2], given)]
    rows += [*knockout(model.host, values[2], given, SAID, rng), *planted(model.host, given, SAID, channel, rng)]
    arms = {name: [row["arm"] for row in rows if row["table"] == name] for name in ("knockout", "planted", "sinks")}
    assert arms["sinks"] == ["layer 2", "layer 3"] and arms["knockout"] == [NOTHING, SINKS, RANDOM]
    assert arms["planted"] == [CLEAN, PLANTED, CHOSEN, ALL]
    weights = [row["received"] for row in rows if row["table"] == "scatter"]
    assert len(weights) == LAYOUT.n and all(0 < weight <= 1 for weight in weights)
    assert len({row["nats"] for row in rows if row["table"] == "knockout"}) == 3


def test_the_gap_to_the_background_is_paired_by_seed() -> None:
    gaps = ((0, 0.9), (0, 0.8), (1, 0.7), (1, 0.9))
    rows = [{"seed": seed, "background": share, "everywhere": 0.8} for seed, share in gaps]
    found = on_background(Results(device="", date="", versions={}, tables={"sinks": rows}))
    assert found.mid == pytest.approx(0.025) and found.n == 2
