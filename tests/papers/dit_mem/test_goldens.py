"""Agreement with the released code, through the public API."""

import pytest
import torch

from saccade.attach import attach
from saccade.papers.dit_mem import DiTMem, FreqFilter, MemoryTokens, frequency_weights
from tests.papers.dit_mem.golden import close, encoder, inputs, stored, wan, weights


def test_the_encoder_gives_the_released_tokens_and_what_lies_between() -> None:
    found, made, seen = stored("encoder"), encoder(), {}
    for band, branch in made.branches.items():
        branch.block1.conv.register_forward_hook(lambda _, __, y, b=band: seen.update({f"{b}_conv1": y[:1]}))
        branch.block1.filter.register_forward_hook(lambda _, __, y, b=band: seen.update({f"{b}_filter1": y[:1]}))
        branch.register_forward_hook(lambda _, __, y, b=band: seen.update({f"{b}_tokens": MemoryTokens(*y).expanded()}))
    with torch.no_grad():
        tokens = made(found["in/x"])
    close(tokens, found["out/tokens"])
    assert len(seen) == 6
    for name in ("high_conv1", "high_filter1", "low_filter1"):
        close(seen[name], found[f"mid/{name}"])
    for name in ("high_tokens", "low_tokens"):
        close(seen[name], found[f"mid/{name}"][0])


def test_official_names_go_both_ways() -> None:
    made, theirs = encoder(), weights("encoder")
    ours = made.official_state()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    twice = made.official_state(twice=True)
    assert len(twice) - len(ours) == 4 * 13  # two blocks of each branch
    made.load_official(twice)
    with pytest.raises(ValueError, match="are one weight and differ in this file"):
        made.load_official(twice | {"high_pass_module.cnn.0.conv.bias": torch.zeros(8)})
    with pytest.raises(ValueError, match="1 unexpected: extra"):
        made.load_official(theirs | {"extra": torch.zeros(1)})


def test_the_filter_and_its_weights_without_noise() -> None:
    found = stored("dit_with_memory")
    weight = frequency_weights(5, (3, 4, 6), "high", noise=0)
    close(weight, found["filter/high_W_without_noise"])
    filtering = FreqFilter(5, (3, 4, 6), "high", noise=0, dropout=0).eval()
    with torch.no_grad():
        close(filtering(found["filter/x"]), found["filter/high_y"])


@pytest.mark.host
@pytest.mark.parametrize("merged", [False, True])
def test_the_real_class_with_memory_gives_the_released_output(merged: bool) -> None:
    found, model, seen = stored("dit_with_memory"), wan(), {}
    model.blocks[0].register_forward_hook(lambda _, __, y: seen.update(out=y[:1]))
    memory = MemoryTokens(found["in/memory"])
    if merged:  # the second sample's tokens are random
        memory = MemoryTokens(memory.tokens[:1]).merged()
        assert memory.n < 36
        found_out, given = (
            found["out/with_memory"][:1],
            {k: v[:1] if k in ("hidden_states", "encoder_hidden_states") else v for k, v in inputs().items()},
        )
    else:
        found_out, given = found["out/with_memory"], inputs()
    with attach(model, DiTMem(memory=memory)), torch.no_grad():
        close(model(**given)[0], found_out)
    close(seen["out"], found["mid/blk0.out"])
    with torch.no_grad():
        assert (model(**inputs())[0] - found["out/with_memory"]).abs().max() > 1e-2  # without memory
