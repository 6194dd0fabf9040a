"""Nothing is lost without a word: each way an attachment could silently do nothing, or the wrong thing, is an error."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attach import attach
from saccade.core.errors import MissingError, SaccadeError, SelectorError, SilentSiteError, StateError
from saccade.core.layout import Layout
from saccade.core.site import at
from tests.hosts.stand_ins import Masked, Same, looking
from tests.hosts.tiny import BY_NAME, PLAIN, output

pytestmark = [pytest.mark.host, pytest.mark.bad_input]


@pytest.fixture
def restored_backend() -> Iterator[None]:
    """diffusers' own choice of back end is process-wide and survives reset_attention_backend."""
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    before = _AttentionBackendRegistry._active_backend
    yield
    _AttentionBackendRegistry._active_backend = before


@pytest.mark.parametrize("name", ["flux", "wan", "hunyuan_video", "qwen_image"])
@pytest.mark.usefixtures("restored_backend")
def test_another_back_end_is_an_error_that_names_it(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    model.set_attention_backend("_native_math")
    chosen = output(model, inputs)
    with attach(model):
        assert torch.equal(output(model, inputs), chosen)
    with (
        attach(model, Same()),
        pytest.raises(SaccadeError, match="back end '_native_math' is selected at"),
    ):
        output(model, inputs)


@pytest.mark.parametrize("name", ["sd3", "pixart", "cogvideox"])
@pytest.mark.usefixtures("restored_backend")
def test_a_back_end_the_host_never_asks_for_is_said_to_change_nothing(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    model.set_attention_backend("_native_math")
    with (
        attach(model, Same()),
        pytest.warns(UserWarning, match="'_native_math' is selected, .* never asks"),
    ):
        output(model, inputs)


def test_attention_replaced_process_wide_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = BY_NAME["sd3"].build()
    before, own = output(model, inputs), F.scaled_dot_product_attention

    def sage(*args: Any, **kwargs: Any) -> Tensor:
        return own(*args, **kwargs)

    with attach(model, Same()):
        monkeypatch.setattr(F, "scaled_dot_product_attention", sage)
        with pytest.raises(SaccadeError, match=r"replaced process-wide by .*test_loud\.sage; put torch's own back"):
            output(model, inputs)
        monkeypatch.undo()
        output(model, inputs)
    assert torch.equal(output(model, inputs), before)


@pytest.mark.usefixtures("restored_backend")
def test_a_back_end_leaked_by_another_model_is_noticed() -> None:
    leaking, _ = BY_NAME["wan"].build()
    leaking.set_attention_backend("_native_math")
    leaking.reset_attention_backend()
    model, inputs = BY_NAME["flux"].build()
    with attach(model, Same()), pytest.raises(SaccadeError, match="reset_attention_backend does not undo"):
        output(model, inputs)


def test_fused_projections_are_seen_when_fused_before_and_refused_after() -> None:
    model, inputs = BY_NAME["pixart"].build()
    late, _ = BY_NAME["pixart"].build()
    model.fuse_qkv_projections()
    plain = output(model, inputs)
    with attach(model, Same()):
        torch.testing.assert_close(output(model, inputs), plain, rtol=1e-4, atol=1e-5)
    with attach(late, Same()):
        late.fuse_qkv_projections()
        with pytest.raises(SilentSiteError, match=r"got another processor \(FusedAttnProcessor2_0\) after attach"):
            output(late, inputs)


def test_a_processor_that_never_calls_a_routed_function_is_refused() -> None:
    from diffusers.models.attention_processor import AttnProcessor

    model, inputs = BY_NAME["pixart"].build()
    model.set_attn_processor(AttnProcessor())
    before = output(model, inputs)
    with pytest.raises(SilentSiteError, match="0.attn1' cannot be reached: the code of AttnProcessor calls none"):
        attach(model, Same())
    assert torch.equal(output(model, inputs), before)


def test_a_planned_site_that_does_not_run_is_an_error_at_the_end_of_the_forward() -> None:
    model, inputs = BY_NAME["flux"].build()
    block = model.transformer_blocks[1]
    block.forward = lambda hidden_states, encoder_hidden_states, **rest: (encoder_hidden_states, hidden_states)
    with (
        attach(model, Same()),
        pytest.raises(SilentSiteError, match="'transformer_blocks.1.attn' had a plan .same."),
    ):
        output(model, inputs)


def test_layers_the_host_was_told_to_skip_are_no_error() -> None:
    model, inputs = BY_NAME["sd3"].build()
    with attach(model, Same()) as run:
        output(model, {**inputs, "skip_layers": [1]})
    assert {s.name: s.calls for s in run.report().sites}["transformer_blocks.1.attn"] == 0


def test_a_selector_that_matches_nothing_lists_the_sites() -> None:
    model, _ = BY_NAME["flux"].build()
    with pytest.raises(SelectorError, match="matches no site; there are transformer_blocks.0.attn, "):
        attach(model, Same(), where=at("*.attn9"))
    with pytest.raises(SelectorError, match=r"heads=\[5\] do not exist at site '.*0.attn', which has 2"):
        attach(model, Same(), where=at(heads=(0, 5)))


def test_a_need_the_host_cannot_meet_is_refused_at_attach() -> None:
    model, inputs = BY_NAME["sd3"].build()
    before = output(model, inputs)
    with pytest.raises(MissingError, match="SD3 offers no 'rotary' at site '.*0.attn'; its positions are added"):
        attach(model, looking(lambda call: None, "host.rotary"))
    with attach(model, looking(lambda call: None, "rows.source")):
        with pytest.raises(MissingError, match=r"no 'rows.source' .* the rows are unknown; pass rows=Rows.of"):
            output(model, inputs)
    assert torch.equal(output(model, inputs), before)


def test_a_mask_sd3_would_ignore_is_an_error() -> None:
    model, inputs = BY_NAME["sd3"].build()
    masked = {**inputs, "joint_attention_kwargs": {"attention_mask": torch.ones(2, 22)}}
    with attach(model, Same()), pytest.raises(ValueError, match="attention_mask'\\] would be ignored"):
        output(model, masked)


def test_a_mask_flux_is_given_is_honoured() -> None:
    model, inputs = BY_NAME["flux"].build()
    dense = torch.rand(2, 1, 22, 22) > 0.3
    dense |= torch.eye(22, dtype=torch.bool)
    padding, soft, by_key = dense[:, :, :1], torch.where(dense, 0.0, -3.0), torch.randn(2, 1, 1, 22)
    for mask in (dense, padding, soft, by_key):
        masked = {**inputs, "joint_attention_kwargs": {"attention_mask": mask}}
        plain = output(model, masked)
        with attach(model, Same()):
            torch.testing.assert_close(output(model, masked), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(2, 1, 1, 22, dtype=torch.int64), "int64 at site '.*' is neither boolean nor additive"),
        (
            torch.ones(3, 22, dtype=torch.bool),
            r"\(3, 22\) at site '.*' does not broadcast to \(batch 2, heads 2, queries 22",
        ),
    ],
    ids=["whole-numbers", "flat"],
)
def test_a_mask_of_unknown_form_is_refused(mask: Tensor, message: str) -> None:
    model, inputs = BY_NAME["flux"].build()
    masked = {**inputs, "joint_attention_kwargs": {"attention_mask": mask}}
    with attach(model, Same()), pytest.raises(ValueError, match=message):
        output(model, masked)


@pytest.mark.parametrize("name", ["hunyuan_video", "qwen_image"])
def test_padding_is_honoured_under_a_window(name: str) -> None:
    """What stands in padded text tokens cannot reach the picture, with or without a system."""
    model, inputs = BY_NAME[name].build()
    mask = inputs.get("encoder_attention_mask", inputs.get("encoder_hidden_states_mask")).bool()
    other = torch.where(mask[..., None], inputs["encoder_hidden_states"], 7.0)
    with attach(model, Masked()):
        a, b = output(model, inputs), output(model, {**inputs, "encoder_hidden_states": other})
        c = output(model, {**inputs, "encoder_hidden_states": inputs["encoder_hidden_states"] + 1})
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert (a - c).abs().max() > 1e-4


def test_the_captions_mask_is_honoured_at_cross_sites() -> None:
    model, inputs = BY_NAME["pixart"].build()
    plain = output(model, inputs)
    with attach(model, Same(), where=at(kind="cross")):
        torch.testing.assert_close(output(model, inputs), plain, rtol=1e-4, atol=1e-5)
    without = output(model, {**inputs, "encoder_attention_mask": torch.ones(2, 6)})
    assert (without - plain).abs().max() > 1e-5


def test_a_layout_that_does_not_fit_names_both_sizes() -> None:
    model, inputs = BY_NAME["plain"].build()
    with attach(model, Same(), layout=Layout.image_only((1, 4, 5))):
        with pytest.raises(ValueError, match="got 19 queries and 19 keys, its layout says 20 and 20"):
            output(model, inputs)


class Dropping(nn.Module):
    """Attention with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 2

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.5 if self.training else 0.0)


def test_attention_dropout_is_refused() -> None:
    model = Dropping()
    with (
        attach(model, Same(), layout=PLAIN),
        pytest.raises(ValueError, match="dropout_p=0.5 at .*; call eval"),
    ):
        model(torch.randn(2, 2, PLAIN.n, 8))


def test_an_unknown_model_is_told_what_is_known() -> None:
    with pytest.raises(ValueError, match="no host family knows Linear; `saccade hosts` lists .*layout=Layout"):
        attach(nn.Linear(2, 2), Same())
    with pytest.raises(TypeError, match="target=int is neither a module nor a pipeline"):
        attach(3, Same())


def test_one_run_in_two_threads_at_once_is_refused() -> None:
    model, inputs = BY_NAME["plain"].build()
    inside, go, errors = threading.Event(), threading.Event(), []

    def look(call: Any) -> None:
        inside.set()
        go.wait(20)

    def work() -> None:
        inside.wait(20)
        try:
            output(model, inputs)
        except StateError as error:
            errors.append(str(error))
        go.set()

    with attach(model, looking(look), layout=PLAIN) as run:
        other = threading.Thread(target=work)
        other.start()
        output(model, inputs)
        other.join()
    assert errors == [f"{run.name} is in a forward in another thread; attach one model per thread, or take turns"]


def test_timing_a_compiled_model_is_refused() -> None:
    model, _ = BY_NAME["plain"].build()
    with pytest.raises(ValueError, match="timing=True needs eager calls"):
        attach(torch.compile(model), Same(), layout=PLAIN, timing=True)
