"""The self-attention network against the official code, and its task."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from saccade.models import Architecture
from saccade.models.checkpoint_names import LoadError
from saccade.papers.position_bias import SAN, Retrieval, Window, rollout, rotated

GOLDEN = Path(__file__).parents[2] / "goldens" / "position-bias" / "case_san.safetensors"
VARIANTS: dict[str, dict[str, Any]] = {
    "causal": {}, "window4": {"mask": "window", "window": 4}, "causal_rope": {"positions": "rope"},
    "causal_sin": {"positions": "sin"},
}  # fmt: skip
TINY = Retrieval(pairs=4, repeats=2, classes=9, width=6, labels=5)


def official() -> dict[str, torch.Tensor]:
    return {name.removeprefix("weights."): x for name, x in load_file(GOLDEN).items() if name.startswith("weights.")}


def small(**changes: Any) -> SAN:
    model = SAN(depth=3, width=8, labels=5, **changes)
    assert model.load_official(official()).complete
    return model.eval()


@pytest.mark.parametrize("name", VARIANTS)
def test_maps_logits_and_rollouts_agree_with_the_official_code(name: str) -> None:
    golden, model = load_file(GOLDEN), small(**VARIANTS[name])
    with torch.no_grad():
        maps = torch.stack(model.maps(golden["x"]))
        torch.testing.assert_close(maps, golden[f"{name}_attn"], rtol=0, atol=1e-6)
        torch.testing.assert_close(model(golden["x"]), golden[f"{name}_logits"], rtol=0, atol=1e-6)
    for ending, residual in (("rollout", None), ("rollout_half_residual", 0.5)):
        found = rollout(maps, residual=residual, mask="causal")
        torch.testing.assert_close(found, golden[f"{name}_{ending}"], rtol=0, atol=2e-6)


def test_rotation_and_window_agree_with_the_official_code() -> None:
    golden = load_file(GOLDEN)
    torch.testing.assert_close(rotated(golden["rope_in"], 1000.0), golden["rope_out_base1000"], rtol=0, atol=1e-6)
    assert torch.equal(Window(width=2).allowed(5), golden["window_mask_w2_n5"] > 0)


def test_official_names_go_both_ways_and_others_are_refused(tmp_path: Path) -> None:
    model, given = small(), official()
    found = model.official_state()
    assert found.keys() == given.keys() and all(torch.equal(found[name], x) for name, x in given.items())
    with pytest.raises(LoadError, match="unexpected: extra"):
        SAN(depth=3, width=8, labels=5).load_official(given | {"extra": torch.zeros(1)})
    model.save_pretrained(tmp_path)
    assert torch.equal(Architecture.from_pretrained(tmp_path).official_state()["lin.bias"], given["lin.bias"])


def test_published_size() -> None:
    layers, readers, head = 2 * 3 * 64**2, 3 * (64**2 + 64), 64 * 32 + 32
    assert SAN.parameters_of(SAN.sizes["paper"]) == layers + readers + head == 39_136
    n, d = 17, 64
    attention = 2 * (3 * n * d * d + 2 * n * n * d)
    assert SAN.of("paper").macs(torch.zeros(1, n, d)) == attention + 3 * d * d + d * 32


def test_options_do_what_they_say() -> None:
    x = load_file(GOLDEN)["x"]
    plain = small()
    assert torch.equal(small(mask="window", window=9)(x), plain(x))
    assert torch.equal(small(mask="prefix", prefix=1)(x), plain(x))
    torch.testing.assert_close(small(mask="prefix", prefix=9)(x), small(mask="full")(x))
    q, k = plain.layers[0].query(x), plain.layers[0].key(x)  # type: ignore[operator]
    place = torch.arange(9.0)
    scores = q @ k.mT / 8**0.5 + (place[:, None] - place) * np.log(0.8)
    wanted = scores.masked_fill(~torch.ones(9, 9).tril().bool(), -torch.inf).softmax(-1)
    torch.testing.assert_close(small(gamma=0.8).maps(x)[0], wanted)
    added, maps = small(residual=True).through(x)
    assert not torch.allclose(added, plain.through(x)[0]) and torch.equal(maps[0], plain.maps(x)[0])


def test_a_rotary_base_reaches_every_layer_or_as_released_the_first() -> None:
    x = load_file(GOLDEN)["x"]
    common, ours, theirs = (
        small(positions="rope", **more).maps(x) for more in ({}, {"base": 50.0}, {"base": 50.0, "compat": "official"})
    )
    assert torch.equal(ours[0], theirs[0]) and not torch.allclose(ours[1], theirs[1])
    official = small(positions="rope", base=50.0, compat="official")
    assert [layer.base for layer in official.layers] == [50.0, 10000.0, 10000.0]
    assert not torch.allclose(common[0], ours[0])


def test_gradients_agree_with_a_rewrite_in_float64() -> None:
    x = torch.randn(2, 4, 6, dtype=torch.float64, requires_grad=True)
    model = SAN(depth=2, width=6, labels=3, gamma=0.7, positions="rope").double()
    assert torch.autograd.gradcheck(model, x)


def test_bad_options_are_refused() -> None:
    for given, message in (
        ({"window": 0}, "window=0 must be at least 1"),
        ({"gamma": 0.0}, r"gamma=0.0 must be in \(0, 1\]"),
        ({"gamma": 1.5}, "gamma=1.5 must be in"),
        ({"mask": "decay"}, "mask='decay' is unknown; choose one of causal, window"),
        ({"width": 7, "positions": "rope"}, "width=7 of rotary heads must be even"),
        ({"gamma": 0.5, "mask": "full"}, "gamma=0.5 decays to the past"),
        ({"compat": "x"}, "compat='x' is unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            SAN(**given)
    with pytest.raises(ValueError, match="length=9 of the prefix is above the 4 tokens"):
        SAN(width=6, mask="prefix", prefix=9)(torch.zeros(1, 4, 6))
    with pytest.raises(ValueError, match=r"x of shape \(1, 4, 5\) must be \(batch, tokens, 6\)"):
        SAN(width=6)(torch.zeros(1, 4, 5))


def test_a_text_is_pairs_and_a_question_with_its_label() -> None:
    task, rng = Retrieval(pairs=4, repeats=2, classes=9, width=6, labels=5, noise=0.0), np.random.default_rng(0)
    world = task.world(rng)
    x, label = task.draw(world, rng, 50)
    assert x.shape == (50, 9, 6)
    for row, right in zip(x, label, strict=True):
        items, labels = row[0:8:2], row[1:8:2]
        same = [i for i in range(4) if torch.equal(items[i], row[-1])]
        assert len(same) == 2 and len({tuple(item.tolist()) for item in items}) == 2
        assert all(torch.equal(labels[i], world.vectors[right]) for i in same)


def test_questions_come_from_the_pairs_chosen() -> None:
    task = Retrieval(pairs=4, repeats=1, classes=9, width=6, labels=5, noise=0.0, answers=(0, 3))
    rng = np.random.default_rng(1)
    x, _ = task.draw(task.world(rng), rng, 60)
    found = {int(next(i for i in range(4) if torch.equal(row[2 * i], row[-1]))) for row in x}
    assert found == {0, 3}


def test_of_two_places_with_one_item_the_label_of_the_right_one_is_asked() -> None:
    task = Retrieval(pairs=4, repeats=1, classes=9, width=6, labels=5, noise=0.0)
    rng = np.random.default_rng(2)
    world = task.world(rng)
    x, label = task.conflict(world, rng, 30, "first", "middle")
    assert torch.equal(x[:, 0], x[:, 4]) and torch.equal(x[:, 0], x[:, -1])
    assert torch.equal(x[:, 1], world.vectors[label]) and not torch.equal(x[:, 5], x[:, 1])
    assert task.places == {"first": 0, "middle": 2, "last": 3}


def test_laws_of_items() -> None:
    rng = np.random.default_rng(3)
    task = Retrieval(classes=64, width=64)
    world = task.world(rng)
    assert float(world.means.std()) == pytest.approx(1 / 64, rel=0.05)
    assert float(task.draw(world, rng, 64).x.std()) == pytest.approx(1 / 64, rel=0.05)
    fixed = Retrieval(classes=64, width=64, kind="fixed", repeats=8)
    items = fixed.draw(world, rng, 1).x[0, 0:16:2]
    assert torch.equal(items, items[:1].expand(8, -1))
    novel = task.world(rng, known=world)
    assert torch.equal(novel.vectors, world.vectors) and not torch.equal(novel.means, world.means)


def test_draws_depend_on_the_generator_alone() -> None:
    one, two = (TINY.draw(TINY.world(np.random.default_rng(5)), np.random.default_rng(6), 3) for _ in range(2))
    assert torch.equal(one.x, two.x) and torch.equal(one.label, two.label)


def test_bad_tasks_are_refused() -> None:
    for given, message in (
        ({"pairs": 8, "repeats": 3}, "pairs=8 must be a multiple of repeats=3"),
        ({"pairs": 4, "repeats": 8}, "pairs=4 must be a multiple of repeats=8, at least one"),
        ({"pairs": 8, "repeats": 1, "classes": 7}, "8 classes in a text are more than classes=7"),
        ({"noise": -1.0}, "noise=-1.0 must be"),
        ({"answers": (8,)}, r"answers=\(8,\) must be pairs from 0 to 7"),
        ({"answers": ()}, r"answers=\(\) must be pairs"),
        ({"kind": "x"}, "kind='x' is unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            Retrieval(**given)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="right='last' and other='last' must differ"):
        TINY.conflict(TINY.world(rng), rng, 2, "last", "last")
