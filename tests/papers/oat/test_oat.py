"""The model's laws: permutation, causality, distractors, padding, decoding; sizes and costs; what is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saccade.models.architecture import Architecture
from saccade.papers.oat import OAT, Search, scanpaths, special
from saccade.papers.oat.model import OATConfig
from tests.papers.oat.small import GRID, LENGTH, OBJECTS, layouts, sequence, small

END, PAD, BEGIN = special(OBJECTS)
PLACES = torch.tensor([(i // 3, i % 3) for i in range(OBJECTS)]).float()


def logits(model: OAT, search: Search, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return model(search, tokens).out


def test_permuting_objects_permutes_the_logits() -> None:
    model, search, tokens = small(), layouts(places=PLACES.expand(2, -1, -1)), sequence()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    where = torch.cat((order.argsort(), torch.tensor([END, PAD, BEGIN])))
    moved = replace(
        search, objects=search.objects[:, order], places=search.places[:, order], target=where[search.target]
    )
    found, wanted = logits(model, moved, where[tokens]), logits(model, search, tokens)
    assert found.shape[-1] == OBJECTS + 2
    torch.testing.assert_close(found, wanted[..., torch.cat((order, torch.tensor([END, PAD])))])


def test_a_distractor_adds_one_logit() -> None:
    model, search = small(), layouts(places=PLACES.expand(2, -1, -1))
    more = replace(
        search,
        objects=torch.cat((search.objects, torch.randn(2, 1, LENGTH)), 1),
        places=torch.cat((search.places, torch.ones(2, 1, 2)), 1),
    )
    begin = torch.full((2, 1), BEGIN + 1)
    assert logits(model, more, begin).shape == (2, 1, OBJECTS + 3)


def test_an_object_that_is_not_there_has_no_logit_and_no_influence() -> None:
    model, search, tokens = small(), layouts(places=PLACES.expand(2, -1, -1), target=torch.tensor([1, 4])), sequence()
    tokens[tokens == 5] = 0
    keep = torch.arange(OBJECTS).expand(2, -1) < 5
    other = search.objects.clone()
    other[:, 5] = 9
    found = logits(model, replace(search, keep=keep), tokens)
    torch.testing.assert_close(found, logits(model, replace(search, objects=other, keep=keep), tokens))
    assert (found[..., 5] == -torch.inf).all() and found[..., :5].isfinite().all()
    assert (found - logits(model, search, tokens))[..., :5].abs().max() > 1e-4


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_the_logit_of_padding_is_the_readout_s_bias(heads: int) -> None:
    model = small(pointer_heads=heads)
    found = logits(model, layouts(), sequence())[..., PAD]
    bias = torch.zeros(()) if model.pointer.readout is None else model.pointer.readout.bias.detach()
    torch.testing.assert_close(found, bias.expand_as(found))


@pytest.mark.parametrize("t", range(5))
def test_logits_do_not_depend_on_later_fixations(t: int) -> None:
    model, search, tokens = small(), layouts(), sequence()
    other = tokens.clone()
    other[:, t + 1 :] = (other[:, t + 1 :] + 1) % OBJECTS
    torch.testing.assert_close(logits(model, search, tokens)[:, : t + 1], logits(model, search, other)[:, : t + 1])
    torch.testing.assert_close(logits(model, search, tokens[:, : t + 1]), logits(model, search, tokens)[:, : t + 1])


def test_gradients_reach_earlier_fixations_alone() -> None:
    model, search, tokens = small(), layouts(), sequence()
    looks = model.looks(search)
    read = model.fixation_tokens(search, tokens, looks).detach().requires_grad_()
    encoded = model.encode(model.object_tokens(search, looks)).out.detach()
    model.pointer(model.decode(read, encoded).out, encoded)[:, 2].square().sum().backward()
    assert (read.grad[:, 3:] == 0).all() and (read.grad[:, :3].abs().amax(-1) > 0).all()


def test_padding_changes_no_logit_before_it() -> None:
    model, search, tokens = small(), layouts(), sequence()
    padded = torch.cat((tokens, torch.full((2, 3), PAD)), dim=1)
    torch.testing.assert_close(logits(model, search, padded)[:, :5], logits(model, search, tokens))


def test_rows_of_a_batch_are_independent() -> None:
    model, search, tokens = small(), layouts(3), sequence(3)
    alone = Search(objects=search.objects[1:2], grid=GRID, target=search.target[1:2])
    torch.testing.assert_close(logits(model, search, tokens)[1:2], logits(model, alone, tokens[1:2]))


def test_a_neutral_target_token_does_not_show_where_the_target_is() -> None:
    """Two objects alike: which of them is the target changes nothing before one is fixated, unless it is given away."""
    search, begin = layouts(1), torch.tensor([[BEGIN]])
    search.objects[:, 4] = search.objects[:, 1]
    one, two = (replace(search, target=torch.tensor([target])) for target in (1, 4))
    neutral, leaky = small(), small(target_position="true")
    torch.testing.assert_close(logits(neutral, one, begin), logits(neutral, two, begin))
    assert (logits(leaky, one, begin) - logits(leaky, two, begin)).abs().max() > 1e-4


def test_free_viewing_needs_no_target() -> None:
    model, search = small(), layouts(target=None)
    found = logits(model, search, sequence())
    assert found.shape == (2, 5, OBJECTS + 2) and found.isfinite().all()


def test_greedy_decoding_is_deterministic_and_follows_the_logits() -> None:
    model, search = small(), layouts(4)
    one, two = (scanpaths(model, search, longest=6) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    for row, path in enumerate(one):
        tokens = torch.tensor([[BEGIN, *path.tolist()]])
        alone = Search(objects=search.objects[row : row + 1], grid=GRID, target=search.target[row : row + 1])
        found = logits(model, alone, tokens)[0, :, : END + 1]
        found[0, END] = -torch.inf
        wanted = [*path.tolist(), *([END] if len(path) < 6 else [])]
        assert found.argmax(-1).tolist()[: len(wanted)] == wanted


def always(model: OAT, token: int) -> OAT:
    """The likeliest is always this one."""
    forward = model.pointer.forward

    def shifted(*arguments: Any) -> Tensor:
        found = forward(*arguments)
        return found + 100 * torch.eye(found.shape[-1])[token]

    model.pointer.forward = shifted
    return model


@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize("token", [END, PAD])
def test_the_first_fixation_is_an_object_and_the_search_ends_with_its_token(sample: bool, token: int) -> None:
    paths = scanpaths(always(small(), token), layouts(8), longest=3, sample=sample)
    assert all(1 <= len(path) <= 3 and path.max() < OBJECTS for path in paths)
    if token == END:
        assert [len(path) for path in paths] == [1] * 8


def test_sampling_follows_the_probabilities_and_the_generator() -> None:
    model, search = small(), layouts(1)
    many = search.repeated(4000)
    one, two = (
        scanpaths(model, many, longest=1, sample=True, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0)
    )
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    wanted = logits(model, search, torch.tensor([[BEGIN]]))[0, 0, :OBJECTS].softmax(0)
    found = np.bincount(np.concatenate(one), minlength=OBJECTS) / 4000
    np.testing.assert_allclose(found, wanted, atol=4 * 0.5 / 4000**0.5)


def test_decoding_leaves_the_mode_as_it_was() -> None:
    model = small().train()
    scanpaths(model, layouts(), longest=2)
    assert model.training and model.drop.training


def test_crops_of_tokens_that_are_no_object_are_one_constant_unless_as_released() -> None:
    for compat, behind in (("none", 1.0), ("official", 0.0)):
        model, search = small(features="vectors", compat=compat), layouts(objects=torch.randn(2, OBJECTS, 12))
        looks = model.looks(search, decoding=True)
        assert (looks[:, OBJECTS : OBJECTS + 2] == behind).all() and (looks[:, OBJECTS + 2] == 1).all()
        assert (model.looks(search)[:, OBJECTS:] == 1).all()


def test_the_released_crops_change_no_fixation() -> None:
    ours, theirs = small(), small(compat="official")
    for a, b in zip(*(scanpaths(model, layouts(6), longest=8) for model in (ours, theirs)), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("pyramid", [0, 2])
def test_crops_of_pixels_are_embedded(pyramid: int) -> None:
    model = small(features="crops", crop=(32, 40), pyramid=pyramid)
    search = layouts(objects=torch.rand(2, OBJECTS, 3, 32, 40))
    assert logits(model, search, sequence()).isfinite().all()
    if pyramid:  # any size
        assert logits(model, layouts(objects=torch.rand(2, OBJECTS, 3, 21, 50)), sequence()).isfinite().all()


def test_any_mixer_goes() -> None:
    model = small(mixer="attention(qk_norm=True)")
    assert logits(model, layouts(), sequence()).isfinite().all()
    assert model.encoder[0].mixer.norm_q.weight.shape == (12,)


def block(d: int, f: int) -> int:
    """Numbers of attention, feed-forward and two norms."""
    return 4 * d * (d + 1) + (d * f + f) + (f * d + d) + 2 * 2 * d


@pytest.mark.parametrize("size", OAT.sizes)
def test_published_sizes_have_the_parameters_of_their_layers(size: str) -> None:
    """Of which the released code trains all, and no table."""
    d, config = 512, OAT.sizes[size]
    cross = 4 * d * (d + 1) + 2 * d
    pointer = 2 * 2 * d * (d + 1) + 3
    crops = 16 * (3 * 25 + 1) + 32 * (16 * 9 + 1) + 256 * (1440 + 1)
    trained = 8 * block(d, d) + 4 * cross + pointer + crops
    assert trained == 18_255_843
    assert OAT.parameters_of(config) == trained + 86 * (config.places + 4)


@pytest.mark.parametrize(("size", "grid"), [("Amazon", (6, 14)), ("yogurt", (3, 9)), ("wine", (2, 11))])
def test_published_sizes_cost_their_multiply_adds(size: str, grid: tuple[int, int]) -> None:
    """Twelve fixations: blocks, attention, the pointer, and the crops of all objects and three that are none."""
    p, t, d = grid[0] * grid[1], 12, 512
    with torch.device("meta"):
        search = Search(objects=torch.empty(1, p, 3, 150, 93), grid=grid, target=torch.empty(1, dtype=torch.long))
        found = OAT.of(size).macs(search, torch.empty(1, t, dtype=torch.long))
    n = p + 1
    encoder = 4 * (6 * n * d * d + 2 * n * n * d)
    decoder = 4 * (8 * t * d * d + 2 * n * d * d + 2 * t * t * d + 2 * t * n * d)
    pointer = 2 * ((t + n) * d * d + t * n * d) + 2 * t * (n + 1)
    crops = (p + 3) * (146 * 89 * 75 * 16 + 27 * 15 * 144 * 32 + 1440 * 256)
    assert found == encoder + decoder + pointer + crops


CONFIGS: dict[str, dict[str, Any]] = {
    "width=5 must be even": {"width": 5},
    "features='words' must be 'crops', 'vectors' or the length": {"features": "words"},
    "features=0 must be": {"features": 0},
    r"crop=\(4,\) must be \(height, width\)": {"crop": (4,)},
    "positions='polar'": {"positions": "polar"},
    "target_position='left'": {"target_position": "left"},
    "compat='old'": {"compat": "old"},
    "places=1 must be at least 2": {"places": 1},
    "table_width=2 on 3 axes must be at least the code's width, 12": {"table_width": 2},
    r"crop=\(28, 40\) leaves no field after two convolutions": {"features": "crops", "crop": (28, 40)},
    "heads=0": {"pointer_heads": 0},
}


@pytest.mark.bad_input
@pytest.mark.parametrize("message", CONFIGS)
def test_options_out_of_range_are_refused(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**CONFIGS[message])


SEARCHES: dict[str, dict[str, Any]] = {
    "target from 1 to 6 must be one of 6 objects": {"target": torch.tensor([1, 6])},
    "target from -1 to 0 must be one of 6 objects": {"target": torch.tensor([-1, 0])},
    "target is an object that keep says is not there": {
        "target": torch.tensor([0, 5]), "keep": torch.arange(6).expand(2, -1) < 5
    },
    r"objects of shape \(2, 0, 5\) must be": {"objects": torch.ones(2, 0, 5)},
    r"grid=\(0, 3\) must be \(rows, columns\)": {"grid": (0, 3)},
    r"grid=\(2, 2\) holds 4 objects, not 6; give their places": {"grid": (2, 2)},
    r"places must be numbers from 0 to \(1.0, 2.0\)": {"places": torch.full((2, 6, 2), torch.nan)},
    "places must be numbers from 0 to .* a row and a column each": {"places": torch.full((2, 6, 2), 1.5)},
}  # fmt: skip


@pytest.mark.bad_input
@pytest.mark.parametrize("message", SEARCHES)
def test_layouts_that_are_none_are_refused(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layouts(**SEARCHES[message])


SEQUENCES = {
    "every row of sequence must begin with 8, the token behind 6 objects": torch.tensor([[0, 1], [8, 1]]),
    "every row of sequence must begin": torch.zeros(2, 0, dtype=torch.long),
    "sequence from -1 to 8 must be 0 to 8": torch.tensor([[8, -1], [8, 1]]),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("message", SEQUENCES)
def test_sequences_outside_the_vocabulary_are_refused(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small()(layouts(), SEQUENCES[message])


@pytest.mark.bad_input
def test_what_the_model_was_not_made_for_is_refused() -> None:
    with pytest.raises(ValueError, match=r"grid=\(2, 3\) is larger than places=2 of the position table"):
        small(places=2)(layouts(), sequence())
    with pytest.raises(ValueError, match="have 3 axes; features='crops' takes 5"):
        small(features="crops")(layouts(), sequence())
    with pytest.raises(ValueError, match="longest=0 must be at least 1"):
        scanpaths(small(), layouts(), longest=0)


def test_a_stored_model_is_the_same(tmp_path: Any) -> None:
    model = small(positions="sinusoid", target_position="true")
    model.save_pretrained(tmp_path)
    again = Architecture.from_pretrained(tmp_path).eval()
    assert isinstance(again, OAT) and again.config == model.config
    torch.testing.assert_close(logits(again, layouts(), sequence()), logits(model, layouts(), sequence()))


def test_the_default_is_the_published_size() -> None:
    assert OATConfig() == OAT.sizes["Amazon"] and set(OAT.sizes) == {"Amazon", "yogurt", "wine"}
