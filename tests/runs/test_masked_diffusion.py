"""The sampler of masked diffusion against a plain rewrite, and its laws."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.runs import generate, reveal_counts

MASK, WORDS = 0, 11
PROMPT = torch.tensor([[3, 1, 4, 1], [5, 9, 2, 6]])
SIZES = [(12, 12, 12), (12, 5, 12), (12, 6, 4), (12, 9, 4), (5, 8, 5)]
Model = Callable[..., Any]


def predictor(seed: int = 0, *, eager: float = 0.0) -> Model:
    """Logits that hang on all real tokens and their places, counted from the end; `eager` favours [MASK]."""
    noise = torch.Generator().manual_seed(seed)
    table, out = torch.randn(WORDS, 6, generator=noise), torch.randn(6, WORDS, generator=noise)
    mixing = torch.randn(64, 64, generator=noise)
    favour = eager * (torch.arange(WORDS) == MASK)

    def model(*, input_ids: Tensor, attention_mask: Tensor | None = None) -> SimpleNamespace:
        n = input_ids.shape[1]
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        mixed = torch.einsum("nm,bmc->bnc", mixing[-n:, -n:], table[input_ids] * real[..., None])
        return SimpleNamespace(logits=mixed @ out + favour)

    return model


def plain(model: Model, prompt: list[int], length: int, steps: int, block: int, *, official: bool = False) -> list[int]:
    """One row at temperature 0, token by token."""
    ids, each = prompt + [MASK] * length, steps * block // length
    for end in range(len(prompt) + block, len(ids) + 1, block):
        for step in range(each):
            logits = model(input_ids=torch.tensor([ids])).logits[0]
            if not official:
                logits[:, MASK] = -torch.inf
            sure, tokens = logits.softmax(-1).max(-1)
            ranked = sorted((-float(sure[i]), i) for i in range(end) if ids[i] == MASK)
            for _, i in ranked[: block // each + (step < block % each)]:
                ids[i] = int(tokens[i])
    return ids


def watched(model: Model) -> tuple[Model, list[Tensor]]:
    """The model, and every input it gets."""
    seen: list[Tensor] = []

    def watching(*, input_ids: Tensor, **more: Tensor) -> Any:
        seen.append(input_ids.clone())
        return model(input_ids=input_ids, **more)

    return watching, seen


@pytest.mark.parametrize(("length", "steps", "block"), SIZES)
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_a_plain_rewrite(length: int, steps: int, block: int, seed: int) -> None:
    model = predictor(seed)
    made = generate(model, PROMPT, length=length, steps=steps, block=block, mask_id=MASK)
    assert made.tolist() == [plain(model, row, length, steps, block) for row in PROMPT.tolist()]


@pytest.mark.parametrize(("length", "steps", "block"), SIZES)
def test_the_official_way_may_reveal_a_mask_that_stays(length: int, steps: int, block: int) -> None:
    model, options = predictor(eager=2.0), {"length": length, "steps": steps, "block": block, "mask_id": MASK}
    made = generate(model, PROMPT, **options, compat="official")
    assert made.tolist() == [plain(model, row, length, steps, block, official=True) for row in PROMPT.tolist()]
    assert (made == MASK).any()
    assert not (generate(model, PROMPT, **options) == MASK).any()


def dream(model: Model, prompt: list[int], length: int, steps: int) -> list[int]:
    """One row by Dream's own code: masks counted at every step, [MASK] a token like others, all revealed at last."""
    ids, times = prompt + [MASK] * length, torch.linspace(1, 1e-3, steps + 1)
    for step in range(steps):
        masked = [i for i, token in enumerate(ids) if token == MASK]
        logits = model(input_ids=torch.tensor([ids])).logits[0]
        sure, tokens = torch.cat((logits[:1], logits[:-1])).softmax(-1).max(-1)
        share = 1 - times[step + 1] / times[step] if step < steps - 1 else 1
        for i in sorted(masked, key=lambda i: (-float(sure[i]), i))[: int(len(masked) * share)]:
            ids[i] = int(tokens[i])
    return ids


@pytest.mark.parametrize(("length", "steps"), [(8, 4), (12, 12), (12, 5), (5, 8), (3, 1)])
@pytest.mark.parametrize("eager", [0.0, 2.0, 4.0])
def test_dreams_own_way_counts_the_masks_there_are(length: int, steps: int, eager: float) -> None:
    model = predictor(eager=eager)
    options: Any = {"length": length, "steps": steps, "mask_id": MASK, "schedule": "dream", "shift": True}
    made = generate(model, PROMPT, **options, compat="official")
    assert made.tolist() == [dream(model, row, length, steps) for row in PROMPT.tolist()]


def test_a_mask_dream_reveals_early_is_filled_by_the_last_step() -> None:
    """[MASK] is the surest token in the first two calls and no prediction afterwards."""
    calls: list[int] = []

    def model(*, input_ids: Tensor) -> Tensor:
        calls.append(1)
        logits = predictor()(input_ids=input_ids).logits
        logits[..., MASK] = -torch.inf
        logits[:, 5, MASK] = 1e3 if len(calls) <= 2 else -torch.inf
        return logits

    options: Any = {"length": 8, "steps": 4, "mask_id": MASK, "schedule": "dream", "compat": "official"}
    assert not (generate(model, PROMPT, **options) == MASK).any()
    calls.clear()
    assert (generate(model, PROMPT, **{**options, "schedule": "llada"}) == MASK).any()


@given(masked=st.integers(0, 300), steps=st.integers(1, 80), schedule=st.sampled_from(["llada", "dream"]))
def test_counts_add_up(masked: int, steps: int, schedule: Any) -> None:
    counts = reveal_counts(masked, steps, schedule)
    assert (len(counts), sum(counts)) == (steps, masked)
    assert min(counts) >= 0


@given(masked=st.integers(0, 300), steps=st.integers(1, 80))
def test_lladas_counts_are_even_with_the_remainder_first(masked: int, steps: int) -> None:
    counts = reveal_counts(masked, steps)
    assert sorted(counts, reverse=True) == list(counts)
    assert counts[0] - counts[-1] == (masked % steps > 0)


def test_dreams_counts_follow_the_linear_grid_of_times() -> None:
    times, left = [1 - 0.999 * i / 7 for i in range(8)], 100
    for step, count in enumerate(reveal_counts(100, 7, "dream")):
        assert count == (left if step == 6 else int(left * (1 - times[step + 1] / times[step])))
        left -= count


@given(
    sizes=st.sampled_from(SIZES),
    temperature=st.sampled_from([0.0, 1.0]),
    remasking=st.sampled_from(["low_confidence", "random"]),
    schedule=st.sampled_from(["llada", "dream"]),
    shift=st.booleans(),
    cfg=st.sampled_from([0.0, 1.5]),
)
def test_each_step_reveals_its_count_in_its_block_and_nothing_is_changed_later(
    sizes: tuple[int, int, int], temperature: float, remasking: Any, schedule: Any, shift: bool, cfg: float
) -> None:
    length, steps, block = sizes
    model, seen = watched(predictor())
    made = generate(
        model, PROMPT, length=length, steps=steps, block=block, mask_id=MASK, temperature=temperature, cfg_scale=cfg,
        remasking=remasking, schedule=schedule, shift=shift, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    states = [*(ids[: len(PROMPT)] for ids in seen), made]
    each = steps * block // length
    assert len(seen) == steps
    assert not (made == MASK).any()
    assert torch.equal(made[:, :4], PROMPT)
    for step, (before, after) in enumerate(zip(states, states[1:], strict=False)):
        changed = before != after
        assert (before[changed] == MASK).all()
        assert changed.sum(1).tolist() == [reveal_counts(block, each, schedule)[step % each]] * len(PROMPT)
        inside = torch.arange(changed.shape[1]).sub(4).div(block, rounding_mode="floor") == step // each
        assert not changed[:, ~inside].any()


def test_the_step_told_counts_over_the_whole_run() -> None:
    reports: list[tuple[int, int]] = []
    generate(
        predictor(), PROMPT, length=12, steps=9, block=4, mask_id=MASK, on_step=lambda i, n: reports.append((i, n))
    )
    assert reports == [(i, 9) for i in range(9)]


@pytest.mark.parametrize("remasking", ["low_confidence", "random"])
def test_the_generator_alone_decides(remasking: Any) -> None:
    def draw(seed: int) -> Tensor:
        noise = torch.Generator().manual_seed(seed)
        options: Any = {"length": 12, "steps": 4, "mask_id": MASK, "temperature": 1.0, "generator": noise}
        return generate(predictor(), PROMPT, remasking=remasking, **options)

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


def test_a_temperature_of_one_draws_from_the_prediction() -> None:
    logits = torch.tensor([-torch.inf, 0.0, 1.0, 2.0])
    made = generate(
        lambda input_ids: logits.expand(*input_ids.shape, 4), torch.ones(1, 1, dtype=torch.long), length=20000,
        steps=1, mask_id=0, temperature=1.0, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    share = made[0, 1:].bincount(minlength=4) / 20000
    four_sigma = 4 * 0.5 / 20000**0.5
    assert (share - logits.softmax(0)).abs().max() < four_sigma


def test_dream_reads_each_token_one_place_earlier() -> None:
    def counting(*, input_ids: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(torch.arange(input_ids.shape[1]) + 1, WORDS)[None].float()

    prompt = PROMPT[:1]
    assert generate(counting, prompt, length=3, steps=3, mask_id=MASK).tolist()[0][4:] == [5, 6, 7]
    assert generate(counting, prompt, length=3, steps=3, mask_id=MASK, shift=True).tolist()[0][4:] == [4, 5, 6]


def test_a_padded_row_comes_out_as_it_does_alone() -> None:
    model, short = predictor(), PROMPT[1:, 1:]
    padded = torch.cat((torch.tensor([[7]]), short), dim=1)
    real = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1]])
    options: Any = {"length": 8, "steps": 4, "mask_id": MASK, "cfg_scale": 0.5}
    together = generate(model, torch.cat((PROMPT[:1], padded)), attention_mask=real, **options)
    assert torch.equal(together[1:, 1:], generate(model, short, **options))
    assert torch.equal(together[:1], generate(model, PROMPT[:1], **options))


def test_guidance_leads_away_from_the_masked_prompt() -> None:
    model, seen = watched(predictor())
    prompts = torch.randint(1, WORDS, (60, 4), generator=torch.Generator().manual_seed(0))
    made = generate(model, prompts, length=1, steps=1, mask_id=MASK, cfg_scale=0.5)
    (asked,) = seen
    assert (asked[60:] == MASK).all()
    conditional, free = (predictor()(input_ids=ids).logits[:, 4, 1:] for ids in asked.chunk(2))
    assert torch.equal(made[:, 4] - 1, (1.5 * conditional - 0.5 * free).argmax(-1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 0}, "block=0 must divide length=0, both at least 1"),
        ({"block": 5}, "block=5 must divide length=12"),
        ({"block": 4, "steps": 4}, "steps=4 must be a multiple of the 3 blocks of length=12"),
        ({"steps": 0}, "steps=0 must be a multiple of the 1 blocks"),
        ({"temperature": -1.0}, r"temperature=-1.0 must be at least 0, which switches it off"),
        ({"cfg_scale": -0.5}, "cfg_scale=-0.5 must be at least 0"),
        ({"remasking": "high"}, "remasking='high' is unknown; choose one of low_confidence, random"),
        ({"schedule": "cosine"}, "schedule='cosine' is unknown; choose one of llada, dream"),
        ({"compat": "paper"}, "compat='paper' is unknown; choose one of official"),
        ({"mask_id": 9}, "prompt_ids holds mask_id=9; give the prompt alone"),
        ({"attention_mask": torch.ones(2, 3)}, r"attention_mask of shape \(2, 3\) must fit prompt_ids of \(2, 4\)"),
        ({"attention_mask": torch.tensor([[1, 1, 1, 0]] * 2)}, "attention_mask pads on the right; pad prompts on the"),
    ],
)
@pytest.mark.bad_input
def test_bad_input_is_answered(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"length": 12, "steps": 4, "mask_id": MASK, **change}
    with pytest.raises(ValueError, match=message):
        generate(predictor(), PROMPT, **given)
