"""Padded text gets no weight: under every system, by every kernel, for rows with captions of different lengths."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.catalogue import systems
from saccade.core.rows import Rows
from saccade.core.site import at
from saccade.mechanisms.low_rank import LowRank
from saccade.papers.adaspa import AdaSpa
from saccade.papers.attencraft import AttenCraft
from saccade.papers.clear import Clear
from saccade.papers.consistedit import ConsistEdit
from saccade.papers.ditctrl import DiTCtrl, WordStrength
from saccade.papers.draft_attention import DraftAttention
from saccade.papers.flashbias import Alibi, FlashBias, SpatialDistance
from saccade.papers.freeflux import FreeFlux, Reshape
from saccade.papers.headhunter import KINDS, SCOPES, SoftPAG
from saccade.papers.in_context_brush import InContextBrush
from saccade.papers.lamic import Lamic
from saccade.papers.mask2dit import Mask2DiT
from saccade.papers.re_ttention import ReTtention
from saccade.papers.scale_dit import ScaleDiT
from saccade.papers.sparsed import SparseD
from saccade.papers.vmoba import VMoBA
from saccade.systems.dense import Dense
from tests.hosts.stand_ins import Masked, looking
from tests.hosts.tiny import BY_NAME, output
from tests.papers.test_registered import HALVES, made

pytestmark = pytest.mark.host
HOSTS = {"hunyuan_video": "encoder_attention_mask", "qwen_image": "encoder_hidden_states_mask"}  # -> its padding mask
PICTURES = {  # grids that pooled keys divide
    "hunyuan_video": {"hidden_states": torch.randn(2, 4, 3, 4, 8, generator=torch.Generator().manual_seed(1))},
    "qwen_image": {
        "hidden_states": torch.randn(2, 24, 16, generator=torch.Generator().manual_seed(1)),
        "img_shapes": [[(1, 4, 6)]] * 2,
    },
}
TIMES = (0.75, 0.5, 0.25)
LENGTHS = (5, 2)  # of the captions in a batch of two rows, padded to 6
ARMS: dict[str, tuple[Any, ...]] = {
    "adaspa": (AdaSpa(sparsity=0.7, block=4, searches=(0.2, 0.9)),),
    "clear": (Clear(radius=1.5), Clear(radius=1.5, pool=2), Clear(radius=2.0, ntk=4.0)),
    "draft_attention": (DraftAttention(sparsity=0.5, pool=(2, 2), skip=0.0),),
    "dense": tuple(Dense(kernel=kernel) for kernel in ("reference", "sdpa")),
    "flashbias": (FlashBias(), FlashBias(prior=Alibi(), tokens="*"), FlashBias(prior=SpatialDistance(strength=9.0))),
    "in_context_brush": (InContextBrush(), InContextBrush(demo="left", words=(0, 1), compat="official", blocks="all")),
    "lamic": tuple(
        Lamic(entities=HALVES, first_stage=0.4, negative=((0,), ()), padding=p) for p in ("hub", "isolated")
    ),
    "mask2dit": tuple(
        Mask2DiT(scenes=2, text_tokens=3, along="rows", mask=mask) for mask in ("dual", "block_diagonal")
    ),
    "re_ttention": (ReTtention(keep=0.5, dense=0.3, period=2),),
    "scale_dit": (ScaleDiT(window=2),),
    "softpag": tuple(
        SoftPAG(layers=(1,), kind=kind, scope=scope, tau=2.0, w=2.0)
        for kind, scope in (*((kind, "all") for kind in KINDS), *(("identity", scope) for scope in SCOPES[:2]))
    ),
    "vmoba": (VMoBA(tile=(2, 2), tau=0.4),),
    "sparsed": tuple(SparseD(keep=0.4, block=4, skip=0.0, select_rule=rule) for rule in ("official", "joint")),
}
# Of one model's sites, of other hosts, or of pairs of rows: these have tests of their own
APART = (
    "attencraft",
    "consistedit",
    "diffuhaul",
    "ditctrl",
    "dreamrelation",
    "freeflux",
    "siamlayout",
    "visual_sink",
    "word_strength",
)
SINGLE = [name for name, entry in systems().items() if entry.attaches and name not in APART]
ALONE = [(arm,) for name in SINGLE for arm in ARMS.get(name, (made(name),))]
EVERY = [*ALONE, *((Clear(radius=1.5, pool=2), FlashBias(), Dense(kernel=name)) for name in ("gather", "sdpa"))]
CASES = {
    f"{stack[0].name}{i}-{name}": (stack, name)
    for i, stack in enumerate(EVERY)
    for name in HOSTS
    if not (stack[0].name == "scale_dit" and name == "hunyuan_video")  # windows are for pictures
}
every_case = pytest.mark.parametrize(("stack", "name"), CASES.values(), ids=CASES)
every_host = pytest.mark.parametrize("name", HOSTS)


def padded(name: str, text: Tensor | None = None) -> dict[str, Any]:
    """Inputs with captions of `LENGTHS`, and these embeddings in place of the padded ones."""
    inputs = BY_NAME[name].build()[1] | PICTURES[name]
    real = torch.arange(inputs["encoder_hidden_states"].shape[1]) < torch.tensor(LENGTHS)[:, None]
    words = inputs["encoder_hidden_states"] if text is None else text
    words = torch.where(real[..., None], inputs["encoder_hidden_states"], words)
    return {**inputs, HOSTS[name]: real.long(), "encoder_hidden_states": words}


def walk(model: nn.Module, inputs: dict[str, Any], *stack: Any, rows: Rows | None = None) -> Tensor:
    """The pictures of three steps, the input held."""
    scale = 1000 if inputs["timestep"].max() > 1 else 1
    with attach(model, *stack, schedule=[1000 * t for t in TIMES], rows=rows):
        steps = [output(model, {**inputs, "timestep": torch.full_like(inputs["timestep"], scale * t)}) for t in TIMES]
    return torch.stack(steps)


@every_case
def test_what_stands_in_padding_never_reaches_the_picture(name: str, stack: tuple[Any, ...]) -> None:
    model, _ = BY_NAME[name].build()
    one, two = walk(model, padded(name), *stack), walk(model, padded(name, torch.full((), 1e3)), *stack)
    assert torch.equal(one, two)
    words = padded(name)["encoder_hidden_states"]
    other = walk(model, {**padded(name), "encoder_hidden_states": words + 1}, *stack)
    assert (one - other).abs().amax(dim=tuple(range(2, one.ndim))).min() > 1e-4  # each row reads its real words


@every_case
def test_a_row_among_others_is_what_it_is_alone(name: str, stack: tuple[Any, ...]) -> None:
    """Padding is cut off there too, except where a system counts tokens from the start of the sequence, or captions."""
    model, inputs = BY_NAME[name].build()[0], padded(name)
    together = walk(model, inputs, *stack)
    for row, length in enumerate(LENGTHS):
        alone = {k: v[row : row + 1] if isinstance(v, Tensor | list) else v for k, v in inputs.items()}
        if not any(
            isinstance(s, SparseD | AdaSpa | Mask2DiT) or isinstance(getattr(s, "prior", None), Alibi) for s in stack
        ):
            alone |= {k: alone[k][:, :length] for k in ("encoder_hidden_states", HOSTS[name])}
        torch.testing.assert_close(walk(model, alone, *stack)[:, 0], together[:, row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "system",
    [
        ConsistEdit(where=at()), FreeFlux(edit=Reshape(layers="all")), DiTCtrl(deepest=0.5, where=at()),
        DiTCtrl(deepest=1.0, words=(0, 1), threshold=0.4, where=at()), WordStrength(tokens=(1,), factor=0.0),
        WordStrength(tokens=(1,), bias=-5.0, lock=0),
    ],
    ids=str,
)  # fmt: skip
@every_host
def test_padding_never_reaches_a_source_and_its_target(name: str, system: Any) -> None:
    model, inputs = BY_NAME[name].build()[0], padded(name)
    noise = inputs["hidden_states"][:1].expand_as(inputs["hidden_states"])
    one, two = (
        walk(model, {**given, "hidden_states": noise}, system, rows=Rows.of("source", "target"))
        for given in (inputs, padded(name, torch.full((), 1e3)))
    )
    assert torch.equal(one, two)
    assert not torch.equal(one[:, 0], one[:, 1])


@every_host
def test_padding_never_reaches_the_picture_by_learned_keys_and_values(name: str) -> None:
    model, _ = BY_NAME[name].build()
    with attach(model) as run:
        terms = LowRank.fresh(model, run.sites, ("add_k_proj", "add_v_proj"), rank=2)
    for up in terms.up.values():
        nn.init.normal_(up)
    system = AttenCraft(learned=terms.requires_grad_(False))
    one, two = walk(model, padded(name), system), walk(model, padded(name, torch.full((), 1e3)), system)
    assert torch.equal(one, two) and not torch.equal(one, walk(model, padded(name)))


@every_host
def test_an_empty_stack_leaves_the_hosts_own_handling_to_the_bit(name: str) -> None:
    model, inputs = BY_NAME[name].build()[0], padded(name)
    plain = output(model, inputs)
    assert (plain - output(model, {**inputs, HOSTS[name]: torch.ones(2, 6).long()})).abs().max() > 1e-5
    with attach(model):
        assert torch.equal(output(model, inputs), plain)
    with attach(model, Dense(kernel="sdpa")):
        torch.testing.assert_close(output(model, inputs), plain, rtol=1e-4, atol=1e-5)


@every_host
def test_the_padding_is_the_calls_mask_and_composes_with_a_window(name: str) -> None:
    model, inputs = BY_NAME[name].build()[0], padded(name)
    seen: list[tuple[Tensor, slice]] = []

    def look(call: AttentionCall) -> None:
        assert call.mask is not None
        seen.append((call.mask.materialize(call.layout_q, call.layout_k), call.layout_k.span("text")))

    with attach(model, Masked(), looking(look)):
        output(model, inputs)
    for allow, text in seen:
        for row, length in enumerate(LENGTHS):
            words = allow[row, :, :, text]
            assert words[..., :length].all() and not words[..., length:].any()
        assert not allow[:, :, :, text.stop % allow.shape[3] :].all()  # the window bites as well


@every_host
def test_heads_that_were_not_chosen_keep_the_padding_too(name: str) -> None:
    model, _ = BY_NAME[name].build()
    outs = []
    for inputs in (padded(name), padded(name, torch.full((), 1e3))):
        with attach(model, Clear(radius=1.5), where=at(heads=(1,))):
            outs.append(output(model, inputs))
    assert torch.equal(*outs)


def test_a_mask_with_holes_is_taken_word_by_word() -> None:
    model, inputs = BY_NAME["qwen_image"].build()
    holes = torch.tensor([[1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0]])  # the second row has no caption at all
    other = torch.where(holes.bool()[..., None], inputs["encoder_hidden_states"], 1e3)
    for stack in ((), (Clear(radius=1.5),)):
        masked = {**inputs, HOSTS["qwen_image"]: holes}
        one, two = walk(model, masked, *stack), walk(model, {**masked, "encoder_hidden_states": other}, *stack)
        assert torch.equal(one, two) and one.isfinite().all()
