"""Passes that are repeated: the same dropout masks, batch statistics counted once, and randomness that goes on."""

import torch
from torch import nn

from saccade.nn.perturbable import SamePasses, frozen_statistics


def passes(share: bool = True) -> tuple[SamePasses, nn.Sequential, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
    return SamePasses(model, (model,), share), model, torch.randn(8, 4)


def test_later_passes_draw_what_the_first_drew() -> None:
    run, _, x = passes()
    assert torch.equal(run(x), run(x)) and torch.equal(run(x), run(x))
    apart, _, x = passes(share=False)
    assert not torch.equal(apart(x), apart(x))


def test_randomness_goes_on_after_the_first_pass_as_if_there_were_no_other() -> None:
    drawn = []
    for more in (0, 3):
        run, _, x = passes()
        run(x)
        for _ in range(more):
            run(x)
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)


def test_batch_statistics_are_those_of_the_first_pass_alone() -> None:
    run, model, x = passes()
    run(x)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run(x + 5)
    assert int(model[0].num_batches_tracked) == 1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with frozen_statistics(model):
        normed = model[0](x + 5)
    torch.testing.assert_close(normed.mean(0), torch.zeros(4), atol=1e-5, rtol=0)  # by their batch still
    assert model[0].track_running_stats
