"""Known scenes under their own time: a block as written down in float64, what is not held, and Wan's times by token."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.nn import functional as F

from saccade.attach import attach
from saccade.core.errors import StateError
from saccade.papers.mask2dit import KnownScenes, Mask2DiT, stretched, stretched_positions, token_times
from tests.hosts.tiny import BY_NAME, output
from tests.papers.mask2dit.three_scenes import (
    ALL_TEXT,
    CLIP,
    FRAMES,
    SCENES,
    TEXT,
    changed,
    inputs,
    model,
    of_clip,
)  # fmt: skip

pytestmark = pytest.mark.host
SYSTEM = Mask2DiT(text_tokens=TEXT)


def velocity(host: Any, given: dict[str, Any], clip: int | None = None, times: Tensor | float = 0.0) -> Tensor:
    with KnownScenes(host, scenes=SCENES, text_tokens=TEXT) as known, known.holding(clip, times), attach(host, SYSTEM):
        return output(host, given)


def by_hand(host: Any, given: dict[str, Any], clip: int, known: Tensor) -> Tensor:
    """One block, part by part: each scene's video and text normed, gated and left under its own conditioning."""
    block = host.transformer_blocks[0]

    def embedded(t: Tensor) -> Tensor:
        return host.time_embedding(host.time_proj(t).double())

    now, then = embedded(given["timestep"]), embedded(known)
    times = [now if i == clip else then for i in range(SCENES)]
    embeds = host.patch_embed(given["encoder_hidden_states"], given["hidden_states"])
    texts, clips = embeds[:, :ALL_TEXT].split(TEXT, 1), embeds[:, ALL_TEXT:].split(CLIP, 1)

    def normed(norm: Any, clips: Any, texts: Any) -> list[Any]:
        found = []
        for x, y, temb in zip(clips, texts, times, strict=True):
            shift, scale, gate, *of_text = (part[:, None] for part in norm.linear(F.silu(temb)).chunk(6, dim=1))
            found.append(
                (norm.norm(x) * (1 + scale) + shift, norm.norm(y) * (1 + of_text[1]) + of_text[0], gate, of_text[2])
            )
        return [*zip(*found, strict=True)]

    video, text, gates, of_text = normed(block.norm1, clips, texts)
    attended = attention(block.attn1, torch.cat(text, 1), torch.cat(video, 1), given["image_rotary_emb"])
    clips = [x + g * a for x, g, a in zip(clips, gates, attended[:, ALL_TEXT:].split(CLIP, 1), strict=True)]
    texts = [x + g * a for x, g, a in zip(texts, of_text, attended[:, :ALL_TEXT].split(TEXT, 1), strict=True)]
    video, text, gates, _ = normed(block.norm2, clips, texts)
    clips = [x + g * block.ff(v) for x, v, g in zip(clips, video, gates, strict=True)]
    left = []
    for x, temb in zip(clips, times, strict=True):
        shift, scale = (part[:, None] for part in host.norm_out.linear(F.silu(temb)).chunk(2, dim=1))
        left.append(host.norm_out.norm(host.norm_final(x)) * (1 + scale) + shift)
    found = host.proj_out(torch.cat(left, 1)).unflatten(1, (SCENES * FRAMES, 2, 2)).unflatten(-1, (4, 2, 2))
    return found.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)


def attention(attn: Any, text: Tensor, video: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Dense under the boolean mask."""
    x = torch.cat((text, video), 1)
    q, k, v = (p(x).unflatten(-1, (2, 16)).transpose(1, 2) for p in (attn.to_q, attn.to_k, attn.to_v))
    q, k = attn.norm_q(q), attn.norm_k(k)
    cos, sin = rotary

    def turned(z: Tensor) -> Tensor:
        """In single precision, as the host does it."""
        head, tail = z[:, :, :ALL_TEXT], z[:, :, ALL_TEXT:].float()
        a, b = tail.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.cat((head, (tail * cos + torch.stack((-b, a), -1).flatten(-2) * sin).double()), 2)

    layout_scene = torch.cat([torch.arange(SCENES).repeat_interleave(n) for n in (TEXT, CLIP)])
    is_video = torch.arange(len(layout_scene)) >= ALL_TEXT
    allow = (layout_scene[:, None] == layout_scene) | (is_video[:, None] & is_video)
    scores = (turned(q) @ turned(k).mT / 4).masked_fill(~allow, -torch.inf)
    return attn.to_out[0]((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("clip", range(SCENES))
@pytest.mark.parametrize("times", [0.0, torch.tensor([3.0, 50.0])], ids=["clean", "by row"])
def test_a_block_is_as_written_down(clip: int, times: Any) -> None:
    host, given = model(1), inputs()
    known = torch.as_tensor(times).reshape(-1).expand(2)
    with torch.no_grad():
        wanted = by_hand(host, given, clip, known)
    torch.testing.assert_close(velocity(host, given, clip, times), wanted, atol=1e-12, rtol=1e-9)
    assert (wanted - velocity(host, given)).abs().max() > 1e-3


def test_nothing_held_is_bitwise_the_host_and_evaluates_no_second_modulation() -> None:
    host, given, count = model(2, torch.float32), inputs(torch.float32), []
    plain, looks = output(host, given), repr(host)
    host.transformer_blocks[0].norm1.linear.register_forward_hook(lambda *_: count.append(1))
    with KnownScenes(host, scenes=SCENES) as known:
        assert torch.equal(output(host, given), plain) and len(count) == 1
        with known.holding(None):
            assert torch.equal(output(host, given), plain) and len(count) == 2
        with known.holding(1):
            assert not torch.equal(output(host, given), plain) and len(count) == 4
        assert torch.equal(output(host, given), plain)
    assert (
        torch.equal(output(host, given), plain) and repr(host) == looks and not hasattr(host, "_saccade_known_scenes")
    )


def test_all_scenes_at_time_0_are_the_normal_mode_at_time_0() -> None:
    host, given = model(2), inputs() | {"timestep": torch.zeros(2).long()}
    torch.testing.assert_close(velocity(host, given, 2), velocity(host, given), atol=1e-13, rtol=1e-11)


def test_known_scenes_see_the_new_one_and_are_seen() -> None:
    host, given = model(2), inputs()
    one, two = (velocity(host, x, 2) for x in (given, changed(given, clip=2)))
    assert (of_clip(one, 0) - of_clip(two, 0)).abs().max() > 1e-5
    three = velocity(host, changed(given, clip=0), 2)
    assert (of_clip(one, 2) - of_clip(three, 2)).abs().max() > 1e-5


def test_checkpointing_runs_again_within_and_is_refused_outside() -> None:
    host, given = model(2), inputs()
    grads = []
    for checkpointed in (False, True):
        if checkpointed:
            host.enable_gradient_checkpointing()
        host.train()
        with KnownScenes(host, scenes=SCENES) as known, attach(host, SYSTEM), known.holding(1):
            host.zero_grad()
            host(**given)[0].square().sum().backward()
            grads.append(host.transformer_blocks[0].norm1.linear.weight.grad.clone())
    torch.testing.assert_close(*grads, atol=1e-10, rtol=1e-8)
    with KnownScenes(host, scenes=SCENES) as known:
        with known.holding(1):
            loss = host(**given)[0].square().sum()
        with pytest.raises(StateError, match="its scenes are no longer held; call backward"):
            loss.backward()


def test_a_model_with_an_offset_embedding_has_it_under_both_times() -> None:
    host, given = model(1, ofs_embed_dim=16), inputs() | {"ofs": torch.full((1,), 2.0).double()}
    zero = given | {"timestep": torch.zeros(2).long()}
    torch.testing.assert_close(velocity(host, zero, 1), velocity(host, zero), atol=1e-13, rtol=1e-11)
    assert not torch.equal(velocity(host, given, 1), velocity(host, given))


def test_wan_takes_times_by_token() -> None:
    host, given = BY_NAME["wan"].build()
    t = given["timestep"].float()
    every = token_times(t, (3, 2, 3), scenes=3, clip=None)
    torch.testing.assert_close(output(host, given | {"timestep": every}), output(host, given), atol=1e-5, rtol=1e-4)
    times = token_times(t, (3, 2, 3), scenes=3, clip=1)
    assert times.tolist() == [[0.0] * 6 + [500.0] * 6 + [0.0] * 6] * 2
    with attach(host, Mask2DiT(scenes=3, mask="block_diagonal"), schedule=(500,)):  # the clock reads the largest
        alone = output(host, given | {"timestep": times})
        zero = output(host, given | {"timestep": token_times(t, (3, 2, 3), scenes=3, clip=1, known=250.0)})
    assert not torch.equal(alone, zero)


def test_tables_of_places_are_stretched_and_not_repeated() -> None:
    table = torch.cat((torch.tensor([0.0, 4.0]), torch.arange(2.0).repeat_interleave(4)))[None, :, None]
    found = stretched(table, text=2, clip=(2, 2, 2), scenes=2)[0, :, 0]
    assert found[:4].tolist() == [0, 1, 3, 4]
    assert found[4:].reshape(4, 4).tolist() == [[t] * 4 for t in (0.0, 0.25, 0.75, 1.0)]
    assert torch.equal(stretched(table, text=2, clip=(2, 2, 2), scenes=1), table)


@pytest.mark.parametrize("learned", [False, True])
def test_hosts_with_tables_take_all_scenes(learned: bool) -> None:
    host = model(1, torch.float32, use_rotary_positional_embeddings=learned, use_learned_positional_embeddings=learned)
    given: dict[str, Any] = inputs(torch.float32) | ({} if learned else {"image_rotary_emb": None})
    one = {**given, "hidden_states": given["hidden_states"][:, :FRAMES],
           "encoder_hidden_states": given["encoder_hidden_states"][:, :TEXT],
           "image_rotary_emb": tuple(x[:CLIP] for x in given["image_rotary_emb"]) if learned else None}  # fmt: skip
    plain = output(host, one)
    with stretched_positions(host, 1):
        assert torch.equal(output(host, one), plain)
    with pytest.raises(RuntimeError):
        output(host, given)  # a table for one caption
    seen: list[Tensor] = []
    with stretched_positions(host, SCENES):
        handle = host.patch_embed.register_forward_hook(lambda m, args, result: seen.append(result))
        assert output(host, given).isfinite().all()
        handle.remove()
    embed = host.patch_embed
    text, video = embed.text_proj(given["encoder_hidden_states"]), given["hidden_states"].flatten(0, 1)
    video = embed.proj(video).unflatten(0, (2, -1)).flatten(3).transpose(2, 3).flatten(1, 2)
    added = stretched(embed.pos_embedding, text=TEXT, clip=(FRAMES, 2, 2), scenes=SCENES)
    torch.testing.assert_close(seen[0], torch.cat((text, video), 1) + added)
    assert torch.equal(output(host, one), plain)


def test_rotary_hosts_have_one_continuous_grid_as_they_are() -> None:
    host, given = model(1, torch.float32), inputs(torch.float32)
    plain = output(host, given)
    with stretched_positions(host, SCENES):
        assert torch.equal(output(host, given), plain)


@pytest.mark.bad_input
def test_what_does_not_fit_is_named() -> None:
    host, given = model(1, torch.float32), inputs(torch.float32)
    with pytest.raises(ValueError, match="scenes=0 must be at least 1"):
        KnownScenes(host, scenes=0)
    with pytest.raises(ValueError, match="WanTransformer3DModel is no CogVideoX transformer.*by `token_times`"):
        KnownScenes(BY_NAME["wan"].build()[0], scenes=3)
    with KnownScenes(host, scenes=SCENES, text_tokens=TEXT) as known:
        with pytest.raises(ValueError, match="holds known scenes already; undo that first"):
            KnownScenes(host, scenes=3)
        for clip in (-1, 3):
            with pytest.raises(ValueError, match=f"clip={clip} must be 0 to 2, one of 3 scenes"), known.holding(clip):
                pass
        with known.holding(0, torch.zeros(3)), pytest.raises(ValueError, match="times has 3 entries for 2 batch rows"):
            host(**given)
        with known.holding(0):
            for name, x, message in (
                ("hidden_states", given["hidden_states"][:, :5], "hidden_states have 5 latent frames, no 3 scenes"),
                ("encoder_hidden_states", given["encoder_hidden_states"][:, :9], "the text has 9 tokens, not 3 x text"),
            ):  # fmt: skip
                with pytest.raises(ValueError, match=message):
                    host(**given | {name: x})
    for options, message in (
        ({"scenes": 2, "clip": 0}, "has 3 latent frames, no scenes=2 of one length"),
        ({"scenes": 3, "clip": 3}, "clip=3 must be 0 to 2"),
    ):
        with pytest.raises(ValueError, match=message):
            token_times(torch.ones(1), (3, 2, 3), **options)
    with pytest.raises(ValueError, match=r"a table of 10 places is none of 2 text tokens and \(3, 2, 2\)"):
        stretched(torch.zeros(1, 10, 1), text=2, clip=(3, 2, 2), scenes=2)
    with pytest.raises(ValueError, match="adds no table of places"), stretched_positions(BY_NAME["wan"].build()[0], 2):
        pass
    added = model(1, torch.float32, use_rotary_positional_embeddings=False)
    with stretched_positions(added, 4), pytest.raises(ValueError, match="6 latent frames are no scenes=4"):
        added(**given)


@pytest.mark.compile
def test_a_compiled_model_has_a_graph_for_each_mode() -> None:
    host, given = model(1, torch.float32), inputs(torch.float32)
    wanted = [velocity(host, given, clip) for clip in (None, 2)]
    counters.clear()
    compiled = torch.compile(host, backend="eager", fullgraph=True)
    for clip, eager in zip((None, 2), wanted, strict=True):
        with KnownScenes(host, scenes=SCENES) as known, known.holding(clip), attach(compiled, SYSTEM):
            torch.testing.assert_close(output(compiled, given), eager, atol=1e-5, rtol=1e-4)
    assert counters["stats"]["unique_graphs"] <= 2
