"""Block-sparse attention without compiling: gather the key blocks a query block reads, then attend densely to them.

Eager, on any device, exact at token level, trainable, with lse. Batches of query blocks that read equally many key
blocks go through one launch. Inside a graph the whole loop is one operator.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.partial import Partial
from saccade.ops.block_cost import BlockCost
from saccade.ops.gather_schedule import GatherSchedule, schedule
from saccade.ops.gathered import BUDGET, tiles_for, work
from saccade.ops.operands import Operands, has_dense, operands, too_short, width
from saccade.ops.orders import reordered
from saccade.ops.pattern import Pattern, pattern
from saccade.ops.pattern_choice import cheapest
from saccade.ops.region_pattern import cheapest_size, region_pattern
from saccade.ops.split_mask import Fixed, MaskParts, split_mask

NAME = "gather"
Costs = tuple[BlockCost, ...]
Reorder = Callable[[Tensor, Tensor], Tensor]  # (b h n d) in an order of the tokens
MIN_TOKENS = 1024  # queries and keys; below, a dense launch takes less than the loop's own cost
# Measured block by block (one core with AMX, 4,096 tokens, D 64), with room for processors not measured
SINGLE = (BlockCost((128, 128), 1.6, 2.1), BlockCost((64, 64), 1.9, 2.2))
HALF = (BlockCost((128, 128), 2.3, 2.8), BlockCost((64, 64), 2.5, 3.1))
COSTS = {torch.float32: SINGLE, torch.float64: SINGLE, torch.bfloat16: HALF, torch.float16: HALF}
WIDE = SINGLE[:1]  # blocks of 128 alone, in the tightest token order
WORTH = 0.9  # of the dense time


def refuses(call: AttentionCall, *, want_lse: bool = False, costs: Costs | None = None) -> list[str]:
    """No fixed mask, a bias without factors, or a mask that mixes too many different blocks."""
    seen, costs = split_mask(call), costs or block_costs(call)
    reasons = ["a dense bias is not gathered; give it as factors"] if has_dense(call.bias) else []
    if call.q.shape[1] % call.k.shape[1]:
        reasons.append(f"{call.q.shape[1]} query heads are no multiple of {call.k.shape[1]} key heads")
    if seen.fixed is None:
        reasons.append("no mask fixed before the call, so no blocks are known to be empty")
    elif torch.compiler.is_compiling() and _key(call, costs) not in seen.fixed.memo:
        reasons.append("the mask was not prepared outside the graph; call ops.prepare first")
    elif chosen_pattern(call, seen.fixed, costs).tiles is None:
        reasons.append("too many different mixed blocks; the mask has no block structure")
    return reasons


def unprofitable(call: AttentionCall) -> list[str]:
    """Too short, or so many blocks that gathering them takes longer than going through all."""
    return slower_than_dense(call, block_costs(call), MIN_TOKENS)


def slower_than_dense(call: AttentionCall, costs: Costs, min_tokens: int) -> list[str]:
    """Why a kernel of these block costs does not pay for a call; nothing where it does."""
    if short := too_short(call, min_tokens):
        return short
    fixed = split_mask(call).fixed
    if fixed is None:
        return []
    found = chosen_pattern(call, fixed, costs)
    time = found.time(next(cost for cost in costs if cost.size == found.size))
    what = f"{found.area:.0%} of the blocks of {found.size[0]} are computed"
    reason = f"{what}, in about {time:.0%} of the time of dense, which is taken above {WORTH:.0%}"
    return [reason] if time > WORTH else []


def block_costs(call: AttentionCall) -> Costs:
    """What this kernel takes for blocks of each size it is good at."""
    costs = COSTS[call.q.dtype]
    return costs if call.q.device.type == "cpu" else costs[:1]


def ready(call: AttentionCall, costs: Costs | None = None) -> None:
    """Prepare pattern, schedule and tiles."""
    seen = split_mask(call)
    if seen.fixed is not None:
        _tiles(call, _prepared(call, seen.fixed, costs or block_costs(call))[0])


def run(call: AttentionCall, *, want_lse: bool = False) -> Partial:
    """Attention over the kept blocks, exact at token level. Cost: 2 (w + dv) FLOPs a computed pair, plus the copies."""
    folded = operands(call)
    found, plan, blocks, keep = laid_out(call, folded, block_costs(call))
    out, lse = work(*blocks, keep, plan, _tiles(call, found), folded.scale)
    return restored(call, found, out, lse if want_lse else None)


def flops(call: AttentionCall, costs: Costs | None = None) -> int:
    """2 (w + dv) for each pair of a computed block."""
    found = found_pattern(call, costs or block_costs(call))
    return 2 * found.share(*call.q.shape[:2]) * found.size[0] * found.size[1] * (width(call) + call.v.shape[-1])


def bytes(call: AttentionCall) -> int:
    """q and out once, and each gathered key and value block written and read once more."""
    b, h, n, _ = call.q.shape
    w, dv = width(call), call.v.shape[-1]
    found = found_pattern(call, block_costs(call))
    gathered = found.share(b, h) * found.size[1] * (w + dv)
    return (b * h * n * (w + dv) + 3 * gathered) * call.q.element_size()


def chosen_pattern(call: AttentionCall, fixed: Fixed, costs: Costs = WIDE) -> Pattern:
    """The block pattern of a mask that a kernel of these costs takes least time for; kept with the mask."""
    layouts, regions = (call.layout_q, call.layout_k), fixed.bound.regions
    if regions is not None:
        size = fixed.once(pattern_key(costs), lambda: cheapest_size(regions.partition, costs))
        return fixed.once(("pattern", size), lambda: region_pattern(regions, layouts[1].n, size))
    size, order = fixed.once(pattern_key(costs), lambda: cheapest(fixed.bound, *layouts, costs))
    return fixed.once(("pattern", size, order), lambda: pattern(fixed.bound, *layouts, size, order))


def pattern_key(costs: Costs = WIDE) -> tuple[object, ...]:
    """Under which a mask's memo keeps the block size and token order chosen."""
    return ("blocks", costs)


def found_pattern(call: AttentionCall, costs: Costs = WIDE) -> Pattern:
    """The same for a call by itself; ValueError where it has no fixed mask."""
    return chosen_pattern(call, _fixed(call), costs)


def _fixed(call: AttentionCall) -> Fixed:
    fixed = split_mask(call).fixed
    if fixed is None:
        raise ValueError("gather counts the blocks of a fixed mask; this call has none")
    return fixed


def _key(call: AttentionCall, costs: Costs) -> tuple[object, ...]:
    b, h = call.q.shape[:2]
    return ("schedule", b, h, operand_heads(call), call.q.dtype, call.q.device, costs)


def operand_heads(call: AttentionCall) -> int:
    """Key heads after folding: as many as query heads where a factor differs by head."""
    return call.k.shape[1] if call.bias is None else operands(call).k.shape[1]


def laid_out(
    call: AttentionCall, folded: Operands, costs: Costs = WIDE, reorder: Reorder = reordered
) -> tuple[Pattern, GatherSchedule, tuple[Tensor, Tensor, Tensor], Bool[Tensor, "C c"] | None]:
    """The pattern, the order of work, q, k, v by block, and which keys are not padded, by block."""
    seen = split_mask(call)
    found, plan = _prepared(call, _fixed(call), costs)
    q = _blocked(folded.q, found.order_q, found.size[0], reorder)
    k, v = (_blocked(x, found.order_k, found.size[1], reorder) for x in (folded.k, folded.v))
    keep = _keep(seen, folded.k.shape[1], found)
    if keep is not None and len(keep) != len(k):
        keep = keep.repeat(len(k) // len(keep), 1)
    return found, plan, (q, k, v), keep


def restored(
    call: AttentionCall,
    found: Pattern,
    out: Float[Tensor, "R s dv"],
    lse: Float[Tensor, "R s"] | None,
    reorder: Reorder = reordered,
) -> Partial:
    """What was computed by block, by token and in the tokens' own order."""
    b, h, n, _ = call.q.shape
    own, mass = (None if x is None else x.unflatten(0, (b, h, -1)).flatten(2, 3) for x in (out, lse))
    assert own is not None
    if found.back is None:
        return Partial(own[:, :, :n], None if mass is None else mass[:, :, :n])
    return Partial(reorder(own, found.back), None if mass is None else mass.index_select(2, found.back))


def _tiles(call: AttentionCall, found: Pattern) -> Tensor:
    def make() -> Tensor:
        assert found.tiles is not None
        return tiles_for(found.tiles, call.q)

    return _fixed(call).once(("tiles", found.size, found.order, call.q.dtype, call.q.device), make)


def _prepared(call: AttentionCall, fixed: Fixed, costs: Costs) -> tuple[Pattern, GatherSchedule]:
    def make() -> tuple[Pattern, GatherSchedule]:
        found = chosen_pattern(call, fixed, costs)
        b, h = call.q.shape[:2]
        plan = schedule(found, b, h, operand_heads(call), BUDGET.get(call.q.device.type, BUDGET["cuda"]))
        _ = plan.sizes  # read now: inside a graph it would be data
        return found, plan

    return fixed.once(_key(call, costs), make)


def _blocked(x: Tensor, order: Tensor | None, size: int, reorder: Reorder) -> Tensor:
    """(b h n d) -> (b h n/size, size, d) in the order, filled up to whole blocks; a view where nothing moves."""
    if order is not None:
        x = reorder(x, order)
    return x.reshape(-1, size, x.shape[-1]).contiguous()


def _keep(seen: MaskParts, heads: int, pattern: Pattern) -> Tensor | None:
    """(b hk K, size): keys not padded, by key block."""
    if seen.keep is None:
        return None
    keep = seen.keep if pattern.order_k is None else seen.keep.index_select(1, pattern.order_k)
    return keep[:, None].expand(-1, heads, -1).reshape(-1, pattern.size[1])
