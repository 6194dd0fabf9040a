"""Kernels against float64 on the card, by type, width and form of the call; whether they wait; CUDA graphs."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context

import torch
from torch import Tensor

from saccade.core.biases import LowRank
from saccade.core.call import AttentionCall, plain_call
from saccade.core.layout import Layout
from saccade.core.masks import KeyPadding, Mask, Table, lower
from saccade.core.partial import Partial
from saccade.core.places import Disc
from saccade.experiments import Row
from saccade.ops import dispatch, reference

FORMS = ("plain", "padded", "ordered", "grouped")
KERNELS = ("triton", "sdpa", "gather")
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
HAIR = {"float32": 1e-4, "bfloat16": 1e-2, "float16": 1e-3}  # of the largest value, beside twice the yardstick's error
PARTS = 6  # blocks of labels along the tokens


@dataclass(frozen=True, kw_only=True)
class Form:
    """One call: `width` columns of q and k, `factors` of a bias beside them, `width_v` of v.

    form  plain, padded (the last keys), ordered (a disc on a grid of side x 2 side tokens), grouped heads
    """

    dtype: str
    width: int
    factors: int
    width_v: int
    form: str
    side: int = 20
    device: str = "cuda"

    def call(self) -> AttentionCall:
        """q, k, v, mask and bias, drawn from a fixed seed."""
        g = torch.Generator().manual_seed(0)
        grid = (1, self.side, 2 * self.side)
        layout = Layout.image_only(grid) if self.form == "ordered" else Layout.plain(2 * self.side**2 + 5)
        heads, groups = 2, 1 if self.form == "grouped" else 2
        sizes = (heads, self.width), (groups, self.width), (groups, self.width_v)
        q, k, v = (self._on(torch.randn(1, h, layout.n, d, generator=g)) for h, d in sizes)
        factors = [self._on(torch.randn(1, heads, layout.n, self.factors, generator=g) / 3) for _ in "qk"]
        bias = LowRank(*factors) if self.factors else None
        return plain_call(q, k, v, layout=layout, mask=self._mask(layout, g), bias=bias)

    def _mask(self, layout: Layout, g: torch.Generator) -> Mask:
        chosen: Mask = Disc(self.side / 5)
        if self.form != "ordered":
            label = torch.arange(layout.n, device=self.device) * PARTS // layout.n
            allow = torch.rand(1, 2, PARTS, PARTS, generator=g) < 0.5
            chosen = Table(label, label, (allow | torch.eye(PARTS, dtype=torch.bool)).to(self.device))
        lowered = lower(chosen, layout, layout, torch.device(self.device))
        assert lowered is not None
        keep = torch.arange(layout.n, device=self.device)[None] < layout.n - 9
        return lowered & KeyPadding(keep) if self.form == "padded" else lowered

    def _on(self, x: Tensor) -> Tensor:
        return x.to(self.device, TYPES[self.dtype])


def exact(forms: Iterable[Form], processes: int) -> Iterator[Row]:
    """Rows of every form and kernel; processes, 0 for none, compile the kernels side by side."""
    if not processes:
        yield from (row for form in forms for row in compared(form))
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for rows in pool.map(compared, forms):
            yield from rows


def compared(form: Form) -> list[Row]:
    """A row for each kernel: errors of the output, lse and gradients, and whether each stays within what is allowed."""
    call = form.call()
    true, yardstick = results(call, reference.run, wide=True), results(call, written_out)
    found: list[Row] = []
    for name in KERNELS:
        module = dispatch.KERNELS[name]
        about = asdict(form) | {"kernel": name}
        if refused := module.refuses(call, want_lse=True):
            found.append(about | {"refused": "; ".join(refused)})
            continue
        got = results(call, module.run)
        errors = {each: error(got[each], true[each]) for each in true}
        limits = {each: 2 * error(yardstick[each], x) + HAIR[form.dtype] * peak(x) for each, x in true.items()}
        found.append(about | errors | {"ok": all(errors[each] <= limits[each] for each in true)})
    return found


def results(call: AttentionCall, run: Callable[..., Partial], *, wide: bool = False) -> dict[str, Tensor]:
    """out, lse, and the gradients of a sum of both by q, k and v."""
    leaves = [(x.double() if wide else x.detach()).requires_grad_() for x in (call.q, call.k, call.v)]
    made = run(call.replace(q=leaves[0], k=leaves[1], v=leaves[2]), want_lse=True)
    assert made.lse is not None
    weights = torch.linspace(-1, 1, made.out.numel(), device=made.out.device).view(made.out.shape)
    gradients = torch.autograd.grad((made.out * weights.to(made.out)).sum() + made.lse.sin().sum(), leaves)
    return {"out": made.out, "lse": made.lse, **dict(zip(("dq", "dk", "dv"), gradients, strict=True))}


def written_out(call: AttentionCall, *, want_lse: bool = False) -> Partial:
    """Attention in plain products in the call's own type: what errors are measured by."""
    repeat = call.q.shape[1] // call.k.shape[1]
    k, v = (x.repeat_interleave(repeat, dim=1) for x in (call.k, call.v))
    scores = call.q @ k.mT * call.scale
    if call.bias is not None:
        scores = scores + call.bias.materialize(*scores.shape[2:]).to(scores.dtype)
    if call.mask is not None:
        scores = scores.masked_fill(~call.mask.materialize(call.layout_q, call.layout_k), -torch.inf)
    return Partial(torch.softmax(scores, -1) @ v, scores.float().logsumexp(-1))


def held(form: Form, kernel: str) -> Row:
    """Whether a warm call waits for the card, and whether a captured graph gives the very bits of an eager call."""
    call, module = form.call(), dispatch.KERNELS[kernel]
    if refused := module.refuses(call, want_lse=True):
        return asdict(form) | {"kernel": kernel, "refused": "; ".join(refused)}
    with torch.no_grad():
        module.ready(call)
        out = [module.run(call, want_lse=True).out for _ in range(3)][-1]
        return asdict(form) | {"kernel": kernel, "waits": waits(lambda: module.run(call, want_lse=True))} | {
            "graph": captured(lambda: module.run(call, want_lse=True).out, out)
        }  # fmt: skip


def waits(work: Callable[[], object]) -> str:
    """What waited for the card, "" where nothing did or there is none."""
    if not torch.cuda.is_available():
        return ""
    torch.cuda.set_sync_debug_mode("error")
    try:
        work()
    except RuntimeError as found:
        return str(found).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return ""


def captured(work: Callable[[], Tensor], expected: Tensor) -> str:
    """ "equal", "differs", or why it cannot be captured."""
    if not torch.cuda.is_available():
        return "no card"
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            out = work()
        graph.replay()
        torch.cuda.synchronize()
    except RuntimeError as found:
        return str(found).splitlines()[0]
    return "equal" if torch.equal(out, expected) else "differs"


def error(a: Tensor, b: Tensor) -> float:
    """The largest difference."""
    return (a.double() - b.double()).abs().max().item()


def peak(x: Tensor) -> float:
    """The largest absolute value."""
    return x.abs().max().item()
