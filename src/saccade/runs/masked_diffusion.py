"""Text out of a mask predictor: all answer tokens start as [MASK], and each step fills in the surest of them.

The predictor sees prompt and answer in both directions and receives no timestep. A step predicts every token at once,
then reveals n_t of those still masked: the n_t whose predicted token has the highest probability (or random ones). With
blocks the answer is filled from left to right, block by block, each by its share of the steps; steps are counted over
the whole run. An attached run learns them from `on_step`: `generate(..., on_step=lambda i, n: run.step(i, of=n))`.

LLaDA  schedule="llada": n_t even, the remainder over the first steps; usually in blocks
Dream  schedule="dream", shift=True: a linear grid of times, token i read from the logits of token i - 1; no blocks

Differs from both: [MASK] itself is never predicted. There it can be; `compat="official"` restores that and what it
entails. LLaDA's counts are made beforehand, so such a token may stay masked to the end. Dream counts the masks there
are at each step, and the last reveals all: in each row for itself, where Dream's code takes the mean of the batch and
masks tokens again if rows differ. Ties go to the earlier token. Dream's top-p and tempered confidence are left out.

Sources: Nie et al., "Large language diffusion models" (2025); Ye et al., "Dream 7B" (2025).
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Remasking = Literal["low_confidence", "random"]
RevealSchedule = Literal["llada", "dream"]
Compat = Literal["official"]
LAST = 1e-3  # where Dream's grid of times ends


@torch.no_grad()
def generate(
    model: Callable[..., Any],
    prompt_ids: Int[Tensor, "b p"],
    *,
    length: int,
    steps: int,
    mask_id: int,
    block: int | None = None,
    temperature: float = 0.0,
    remasking: Remasking = "low_confidence",
    schedule: RevealSchedule = "llada",
    shift: bool = False,
    cfg_scale: float = 0.0,
    attention_mask: Bool[Tensor, "b p"] | Int[Tensor, "b p"] | None = None,
    on_step: Callable[[int, int], object] | None = None,
    generator: torch.Generator | None = None,
    compat: Compat | None = None,
) -> Int[Tensor, "b p+{length}"]:
    """Prompts, each followed by `length` tokens of answer.

    model           called as `model(input_ids=..., attention_mask=...)`; returns logits, or what has them as `.logits`
    steps           of the whole run, a multiple of the number of blocks; one forward each
    block           tokens filled before the next are begun, a divisor of `length`; None: all in one
    temperature     0 takes the likeliest token, 1 draws from the prediction; the choice of positions stays as it is
    cfg_scale       s: logits u + (1 + s) (c - u), u with the prompt masked; such rows follow the others in the batch
    attention_mask  False or 0 at the padding on the left of shorter prompts; without it the model is given no mask.
                    Places are left to the model: relative ones, such as rotary, do not mind the padding
    on_step         called with step and `steps` before every forward
    Raises ValueError for sizes that do not divide, an unknown name, a mask in the prompt or padding on the right.
    """
    _check_names(
        remasking=(remasking, Remasking), schedule=(schedule, RevealSchedule), compat=(compat or "official", Compat)
    )
    _check_range(temperature=temperature, cfg_scale=cfg_scale)
    _check_prompt(prompt_ids, attention_mask, mask_id)
    ids = torch.cat((prompt_ids, prompt_ids.new_full((len(prompt_ids), length), mask_id)), dim=1)
    real = None if attention_mask is None else _extended(attention_mask, length)
    start = prompt_ids.shape[1]
    counted = compat is not None and schedule == "dream"
    for step, (end, count, share) in enumerate(_timetable(length, steps, block, schedule)):
        if on_step is not None:
            on_step(step, steps)
        logits = _predict(model, ids, real, start, mask_id, cfg_scale)
        logits = torch.cat((logits[:, :1], logits[:, :-1]), dim=1) if shift else logits
        if compat is None:
            logits = logits.index_fill(-1, ids.new_tensor([mask_id]), -torch.inf)
        tokens = _draw(logits, temperature, generator)
        sure = _confidence(logits, tokens) if remasking == "low_confidence" else _random(tokens, generator)
        fillable = (ids == mask_id) & _before(ids, start + end)
        ids = _reveal(ids, tokens, sure, fillable, (fillable.sum(1, True) * share).long() if counted else count)
    return ids


def reveal_counts(masked: int, steps: int, schedule: RevealSchedule = "llada") -> tuple[int, ...]:
    """How many of `masked` tokens each step reveals; they add up to `masked`."""
    if schedule == "llada":
        each, rest = divmod(masked, steps)
        return tuple(each + (step < rest) for step in range(steps))
    counts: list[int] = []
    for share in reveal_shares(steps):
        counts.append(int((masked - sum(counts)) * share))
    return tuple(counts)


def reveal_shares(steps: int) -> Float[Tensor, " steps"]:
    """Which share of the tokens masked at each step Dream reveals; at the last, all."""
    times = torch.linspace(1, LAST, steps + 1)
    return torch.cat((1 - times[1:-1] / times[:-2], torch.ones(1)))


def _timetable(
    length: int, steps: int, block: int | None, schedule: RevealSchedule
) -> list[tuple[int, int, Float[Tensor, ""]]]:
    """For each step of the run, where the block in hand ends, counted from the answer's start, and what to reveal.

    That is a number of tokens, and the share Dream's code takes of those masked.
    """
    block = length if block is None else block
    if length < 1 or block < 1 or length % block:
        raise ValueError(f"block={block} must divide length={length}, both at least 1")
    blocks = length // block
    if steps < 1 or steps % blocks:
        raise ValueError(f"steps={steps} must be a multiple of the {blocks} blocks of length={length}, at least 1 each")
    counts, shares = reveal_counts(block, steps // blocks, schedule), reveal_shares(steps // blocks)
    ends = range(block, length + 1, block)
    return [(end, count, share) for end in ends for count, share in zip(counts, shares, strict=True)]


def _predict(
    model: Callable[..., Any],
    ids: Int[Tensor, "b n"],
    real: Bool[Tensor, "b n"] | None,
    prompt: int,
    mask_id: int,
    scale: float,
) -> Float[Tensor, "b n v"]:
    """Logits in float32, guided away from those of a masked prompt where `scale` is not zero."""
    given = torch.cat((ids, ids.masked_fill(_before(ids, prompt), mask_id))) if scale else ids
    masks = {} if real is None else {"attention_mask": torch.cat((real, real)) if scale else real}
    made = model(input_ids=given, **masks)
    logits: Tensor = getattr(made, "logits", made)
    if not scale:
        return logits.float()
    conditional, free = logits.float().chunk(2)
    return free + (1 + scale) * (conditional - free)


def _draw(logits: Float[Tensor, "b n v"], temperature: float, generator: torch.Generator | None) -> Int[Tensor, "b n"]:
    """The likeliest token, or one drawn: Gumbel noise on the logits."""
    if temperature == 0:
        return logits.argmax(-1)
    return (logits - temperature * (-_random(logits, generator).log()).log()).argmax(-1)


def _confidence(logits: Float[Tensor, "b n v"], tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    return logits.softmax(-1).gather(-1, tokens[..., None])[..., 0]


def _random(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform float64 of the same shape; drawn where the generator lives."""
    home = like.device if generator is None else generator.device
    return torch.rand(like.shape, generator=generator, device=home, dtype=torch.float64).to(like.device)


def _reveal(
    ids: Int[Tensor, "b n"],
    tokens: Int[Tensor, "b n"],
    sure: Float[Tensor, "b n"],
    fillable: Bool[Tensor, "b n"],
    count: int | Int[Tensor, "b 1"],
) -> Int[Tensor, "b n"]:
    """`ids` with the `count` surest fillable tokens of each row filled in."""
    order = sure.masked_fill(~fillable, -torch.inf).argsort(dim=1, descending=True, stable=True)
    best = torch.arange(ids.shape[1], device=ids.device) < torch.as_tensor(count, device=ids.device)
    return torch.where(torch.zeros_like(fillable).scatter(1, order, best.expand_as(order)), tokens, ids)


def _before(ids: Int[Tensor, "b n"], end: int) -> Bool[Tensor, " n"]:
    return torch.arange(ids.shape[1], device=ids.device) < end


def _extended(attention_mask: Tensor, length: int) -> Bool[Tensor, "b n"]:
    return torch.nn.functional.pad(attention_mask.bool(), (0, length), value=True)


def _check_names(**given: tuple[str, Any]) -> None:
    for name, (value, known) in given.items():
        if value not in get_args(known):
            raise ValueError(f"{name}='{value}' is unknown; choose one of {', '.join(get_args(known))}")


def _check_range(**given: float) -> None:
    for name, value in given.items():
        if not value >= 0:
            raise ValueError(f"{name}={value} must be at least 0, which switches it off")


def _check_prompt(prompt_ids: Tensor, attention_mask: Tensor | None, mask_id: int) -> None:
    if (prompt_ids == mask_id).any():
        raise ValueError(f"prompt_ids holds mask_id={mask_id}; give the prompt alone, length= adds the masked answer")
    if attention_mask is None:
        return
    if attention_mask.shape != prompt_ids.shape:
        raise ValueError(
            f"attention_mask of shape {tuple(attention_mask.shape)} must fit prompt_ids of {tuple(prompt_ids.shape)}"
        )
    if (attention_mask.bool()[:, :-1] & ~attention_mask.bool()[:, 1:]).any():
        raise ValueError("attention_mask pads on the right; pad prompts on the left, tokenizer.padding_side='left'")
