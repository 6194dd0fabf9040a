"""In-Context Brush on tiny random models of the real classes: where it acts, what it leaves, and that it compiles."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from saccade.attach import attach
from saccade.core.errors import SelectorError
from saccade.core.rows import Rows
from saccade.core.site import Where, at
from saccade.papers.clear import Clear
from saccade.papers.in_context_brush import InContextBrush
from saccade.systems.dense import Dense
from tests.hosts.tiny import BY_NAME, flux_inputs, output

pytestmark = pytest.mark.host
JOINT = ("flux", "sd3", "qwen_image", "hunyuan_video", "cogvideox")
APART = Where(kinds=("self", "cross"))
NEUTRAL = InContextBrush(alpha_text=0, alpha_demo=0, beta=0)
LEFT = InContextBrush(demo="left")


def brush(name: str, **options: Any) -> InContextBrush:
    """By the half of its grid that there is."""
    return InContextBrush(**{"demo": "left" if name == "cogvideox" else "top", **options})


def run(model: nn.Module, inputs: dict[str, Any], *systems: Any, **options: Any) -> Tensor:
    with attach(model, *systems, **options):
        return output(model, inputs)


def fill() -> tuple[Any, dict[str, Any]]:
    """FLUX.1 Fill's transformer: 64 channels of latents, as many of the masked picture, and 256 of the mask."""
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(0)
    model = FluxTransformer2DModel(
        patch_size=1, in_channels=384, out_channels=64, num_layers=2, num_single_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    inputs = flux_inputs(height=6, width=3)
    return model.eval(), {**inputs, "hidden_states": torch.randn(2, 18, 384)}


@pytest.mark.parametrize("name", [*JOINT, "pixart", "wan"])
def test_nothing_to_do_is_bitwise_the_host(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    before = output(model, inputs)
    assert torch.equal(run(model, inputs, NEUTRAL), before)


@pytest.mark.parametrize("name", JOINT)
def test_it_acts_on_every_joint_host_and_the_map_written_out_agrees(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    before = output(model, inputs)
    after = run(model, inputs, brush(name))
    assert (after - before).abs().max() > 1e-4
    by_map = run(model, inputs, brush(name), Dense(kernel="reference"))
    torch.testing.assert_close(after, by_map, rtol=1e-4, atol=1e-5)


def test_flux_fill_is_a_host_like_any_flux() -> None:
    model, inputs = fill()
    with attach(model, InContextBrush()) as attached:
        out = output(model, inputs)
        acting = {site.name: bool(site.systems) for site in attached.report().sites}
    assert out.shape == (2, 18, 64)
    assert acting == {
        f"{stack}.{i}.attn": stack[0] == "t"
        for stack in ("transformer_blocks", "single_transformer_blocks")
        for i in (0, 1)
    }  # noqa: E501
    assert (out - output(model, inputs)).abs().max() > 1e-4


def test_a_last_block_leaves_text_and_demonstration_to_the_bit() -> None:
    """The image tokens of the demonstration half pass the last block's attention unchanged."""
    model, inputs = fill()
    site = "single_transformer_blocks.1.attn"
    before = output(model, inputs)
    figure = run(model, inputs, InContextBrush(blocks="all"), where=at(site))
    assert torch.equal(figure[:, :9], before[:, :9]) and not torch.equal(figure[:, 9:], before[:, 9:])
    official = run(model, inputs, InContextBrush(compat="official"), where=at(site))
    assert not torch.equal(official[:, :9], before[:, :9])


@pytest.mark.parametrize("name", ["flux", "sd3"])
def test_shift_and_weights_as_two_systems_are_what_they_are_in_one(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    shift, weigh = InContextBrush(beta=0), InContextBrush(alpha_text=0, alpha_demo=0)
    torch.testing.assert_close(
        run(model, inputs, shift, weigh), run(model, inputs, InContextBrush()), rtol=1e-5, atol=1e-6
    )


def test_image_only_attention_of_sd3_takes_part() -> None:
    model, inputs = BY_NAME["sd3"].build()
    beside = run(model, inputs, InContextBrush(alpha_text=0, beta=0), where=at("*.attn2"))
    assert not torch.equal(beside, output(model, inputs))


@pytest.mark.parametrize("name", ["pixart", "wan"])
def test_cross_attention_is_scaled_in_the_querys_rows(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    before = output(model, inputs)
    with pytest.raises(SelectorError, match="beta=0.2 weighs heads"):
        attach(model, InContextBrush())
    with pytest.raises(SelectorError, match="alpha_text=0.3 acts on"):
        attach(model, InContextBrush(beta=0))
    kept: list[Tensor] = []
    modules = [m for n, m in model.named_modules() if n.endswith("attn2")]
    hook = modules[0].to_out[0].register_forward_pre_hook(lambda module, args: kept.append(args[0].clone()))
    text = InContextBrush(beta=0, alpha_demo=0, alpha_text=0.5, where=APART)
    run(model, inputs)
    after = run(model, inputs, text, where=APART)
    hook.remove()
    plain, scaled = kept
    half = plain.shape[1] // (2 * (3 if name == "wan" else 1))  # of a picture or a frame
    rows = torch.arange(plain.shape[1]) % (2 * half) >= half
    torch.testing.assert_close(scaled[:, rows], 1.5 * plain[:, rows])
    torch.testing.assert_close(scaled[:, ~rows], plain[:, ~rows])
    assert not torch.equal(after, before)
    both = run(model, inputs, InContextBrush(beta=0, where=APART), where=APART)
    assert not torch.equal(both, run(model, inputs, InContextBrush(beta=0, alpha_text=0)))


def test_another_system_runs_beside_it() -> None:
    model, inputs = BY_NAME["flux"].build()
    window = Clear(radius=1.5)
    stacked = run(model, inputs, InContextBrush(), window)
    torch.testing.assert_close(
        stacked, run(model, inputs, window, InContextBrush(), Dense(kernel="reference")), rtol=1e-4, atol=1e-5
    )
    assert not torch.equal(stacked, run(model, inputs, window))


def test_rows_of_guidance_are_treated_alike() -> None:
    model, inputs = BY_NAME["sd3"].build()
    both = run(model, inputs, InContextBrush(), rows=Rows.of("uncond", "cond"))
    for row in range(2):
        alone = {k: v[row : row + 1] if isinstance(v, Tensor) else v for k, v in inputs.items()}
        torch.testing.assert_close(run(model, alone, InContextBrush())[0], both[row], rtol=1e-4, atol=1e-5)


def test_bfloat16_stays_close() -> None:
    model, inputs = BY_NAME["flux"].build()
    wanted = run(model, inputs, InContextBrush())
    half = {
        k: v.bfloat16() if isinstance(v, Tensor) and k not in ("img_ids", "txt_ids") else v for k, v in inputs.items()
    }
    made = run(model.bfloat16(), half, InContextBrush())
    assert made.dtype == torch.bfloat16
    assert (made.float() - wanted).abs().mean() < 0.05 * wanted.abs().mean()


@pytest.mark.bad_input
def test_tokens_that_do_not_fit_are_named_before_a_block_runs() -> None:
    model, inputs = BY_NAME["flux"].build()
    odd = {**inputs, **flux_inputs(height=5, width=4)}
    ran: list[object] = []
    model.transformer_blocks[0].register_forward_hook(lambda *seen: ran.append(seen))
    for system, said in (
        (InContextBrush(), "an image of 5 rows of tokens has no equal halves; make subject and target of one size"),
        (InContextBrush(demo="left", text_tokens=512), "text_tokens=512 is not the number of text tokens, 6"),
        (InContextBrush(demo="left", words=(6,)), r"words=\[6\] lie beyond the 6 text tokens"),
    ):
        with pytest.raises(ValueError, match=said):
            run(model, odd, system)
    assert not ran
    run(model, odd, InContextBrush(compat="official"))
    assert ran


@pytest.mark.compile
@pytest.mark.parametrize(
    "system", [InContextBrush(), LEFT, InContextBrush(compat="official", words=(0, 2), demo=(0, 3, 5))], ids=str
)
def test_it_compiles_in_one_graph(system: InContextBrush) -> None:
    model, inputs = BY_NAME["flux"].shallow()
    torch._dynamo.reset()
    counters.clear()
    wanted = run(model, inputs, system)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with attach(compiled, system), torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(output(compiled, inputs), wanted, rtol=1e-5, atol=1e-6)
    assert counters["stats"]["unique_graphs"] == 1
    torch._dynamo.reset()
