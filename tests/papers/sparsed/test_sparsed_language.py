"""SparseD on tiny random language models of transformers, their steps given by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade.attach import attach
from saccade.papers.sparsed import SparseD
from saccade.runs import generate
from tests.hosts.tiny import output
from tests.hosts.transformers.texts import LEFT, LENGTH, llada, llama, modern_bert, qwen3, words

pytestmark = pytest.mark.host
STEPS, LAST = 5, 2
SPARSE = SparseD(keep=0.3, block=3, generation=4)


def built(make: Any) -> nn.Module:
    torch.manual_seed(0)
    return make()[0].eval()


def walk(model: nn.Module, steps: list[dict[str, Any]], *systems: SparseD) -> list[Tensor]:
    """Logits of a forward a step."""
    with attach(model, *systems) as run:
        outs = []
        for step, inputs in enumerate(steps):
            run.step(step, of=STEPS)
            outs.append(output(model, inputs))
    return outs


def texts(mask: Tensor | None = None) -> list[dict[str, Any]]:
    torch.manual_seed(1)
    return [{**words(mask), "use_cache": False} for _ in range(STEPS)]


def test_steps_are_dense_then_sparse_where_heads_share_keys() -> None:
    model, steps = built(llada), texts()
    outs, dense = walk(model, steps, SPARSE), walk(model, steps)
    assert all(torch.equal(a, b) for a, b in zip(outs[:LAST], dense[:LAST], strict=True))
    assert [(a - b).abs().max() > 1e-4 for a, b in zip(outs[LAST + 1 :], dense[LAST + 1 :], strict=True)] == [True] * 2


def test_a_prompt_padded_on_the_left_is_as_if_alone() -> None:
    model, steps = built(llada), texts(LEFT)
    alone = [{**step, "input_ids": step["input_ids"][1:, 3:], "attention_mask": None} for step in steps]
    for out, other in zip(walk(model, steps, SPARSE), walk(model, alone, SPARSE), strict=True):
        torch.testing.assert_close(out[1:, 3:], other, atol=1e-5, rtol=1e-4)


def test_a_sampler_tells_the_steps_and_guidance_keeps_its_rows_apart() -> None:
    model = built(llada)
    prompt = torch.randint(2, 40, (1, LENGTH), generator=torch.Generator().manual_seed(0))

    def written(*systems: SparseD) -> Tensor:
        with attach(model, *systems) as run:
            return generate(
                model, prompt, length=6, steps=6, mask_id=1, cfg_scale=0.5, on_step=lambda i, n: run.step(i, of=n)
            )

    dense = written()
    assert torch.equal(written(SparseD(keep=1)), dense)
    sparse = written(SparseD(keep=0.2, block=2, generation=6))
    assert torch.equal(sparse[:, :LENGTH], prompt) and not (sparse == 1).any()
    assert torch.equal(sparse, written(SparseD(keep=0.2, block=2, generation=6)))


def test_a_window_of_the_host_stays() -> None:
    model, steps = built(modern_bert), [words() for _ in range(STEPS)]
    outs, dense = walk(model, steps, SPARSE), walk(model, steps)
    assert all(out.isfinite().all() for out in outs) and torch.equal(outs[0], dense[0])


@pytest.mark.bad_input
@pytest.mark.parametrize("make", [llama, qwen3])
def test_a_causal_model_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"attention at site '.*' is causal; a frozen pattern is for models that att"):
        walk(built(make), texts(LEFT), SPARSE)


@pytest.mark.bad_input
def test_a_model_without_a_timestep_must_be_told() -> None:
    model = built(llada)
    with attach(model, SPARSE), pytest.raises(ValueError, match=r"'sparsed' needs the step .* run.step\(i, of=n\)"):
        output(model, texts()[0])
    found = walk(model, texts(), SparseD(keep=1))
    assert torch.equal(found[0], output(model, texts()[0]))
