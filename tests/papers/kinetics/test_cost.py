"""What text costs: the official tables, the laws of the sums, shapes of real configs."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import DeepseekV3Config, Qwen3Config, Qwen3MoeConfig

from saccade.papers.kinetics import QWEN3, Budget, Shape, Use, cost_of, crossover, pass_at, shape_of, touched
from saccade.papers.kinetics.cost import B200, TERA, Cost
from saccade.papers.kinetics.coverage import graded

GOLDEN = Path(__file__).parents[2] / "goldens" / "kinetics" / "case_cost_tables.safetensors"
USES = st.builds(
    Use, prompt=st.integers(0, 5000), generated=st.integers(1, 40000), trials=st.integers(1, 64)
)  # fmt: skip
SHAPES = st.sampled_from(list(QWEN3.values()))


def tera(found: Cost) -> tuple[float, float]:
    return found.compute / TERA, B200 * found.memory / TERA


def test_the_official_tables() -> None:
    found = load_file(GOLDEN)
    shapes = [
        Shape(parameters=p, layers=int(layers), heads=int(h), kv_heads=int(g), head_dim=int(d))
        for p, layers, h, g, d in found["models"].tolist()
    ]
    for model, prompt, generated, trials, *wanted in found["dense"].tolist():
        use = Use(prompt=int(prompt), generated=int(generated), trials=int(trials))
        assert tera(cost_of(shapes[int(model)], use)) == pytest.approx(wanted, rel=1e-12)
    for model, prompt, generated, trials, local, block, blocks, *wanted in found["block"].tolist():
        use = Use(prompt=int(prompt), generated=int(generated), trials=int(trials))
        budget = Budget(top=int(block * blocks), local=int(local), block=int(block))
        assert tera(cost_of(shapes[int(model)], use, budget)) == pytest.approx(wanted, rel=1e-12)
    for trials, correct, k, wanted in found["coverage"].tolist():
        assert pass_at(int(k), trials=int(trials), correct=int(correct)) == pytest.approx(wanted, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(
    ("model", "generated", "compute", "memory", "total", "seconds"),
    [
        ("0.6B", 8192, 20.498, 2299.955, 2320.453, 0.5157),
        ("0.6B", 32768, 174.353, 35175.782, 35350.135, 7.8556),
        ("1.7B", 32768, 258.108, 35175.782, 35433.890, 7.8742),
        ("4B", 32768, 585.062, 45226.006, 45811.067, 10.1802),
        ("8B", 8192, 155.213, 2957.085, 3112.298, 0.6916),
        ("8B", 32768, 858.347, 45226.006, 46084.353, 10.2410),
        ("14B", 32768, 1414.643, 50251.117, 51665.761, 11.4813),
        ("32B", 32768, 3290.451, 80401.788, 83692.239, 18.5983),
    ],
)
def test_the_table_of_the_specification(
    model: str, generated: int, compute: float, memory: float, total: float, seconds: float
) -> None:
    found = cost_of(QWEN3[model], Use(prompt=256, generated=generated))
    assert tera(found) == pytest.approx((compute, memory), abs=6e-4)
    assert found.equivalent() / TERA == pytest.approx(total, abs=1e-3)
    assert found.seconds() == pytest.approx(seconds, abs=6e-5)


@pytest.mark.parametrize(
    ("model", "trials", "budget", "compute", "memory"),
    [
        ("0.6B", 32, None, 655.948, 69404.524),
        ("8B", 32, None, 4966.820, 89234.388),
        ("32B", 32, None, 19568.212, 158638.912),
        ("0.6B", 1, Budget(top=1024), 56.912, 2145.638),
        ("8B", 1, Budget(top=1024), 556.357, 2758.678),
        ("8B", 1, Budget(top=128), 539.214, 347.892),
        ("0.6B", 1, Budget(top=1024, block=16), 60.820, 3244.881),
        ("8B", 1, Budget(top=1024, block=16), 566.407, 4171.990),
        ("32B", 1, Budget(top=1024, block=16), 2252.444, 7416.872),
    ],
)
def test_many_trials_and_budgets(model: str, trials: int, budget: Budget | None, compute: float, memory: float) -> None:
    use = Use(prompt=256, generated=8192 if trials > 1 else 32768, trials=trials)
    assert tera(cost_of(QWEN3[model], use, budget)) == pytest.approx((compute, memory), abs=6e-4)


def test_the_released_sum_has_the_other_sign() -> None:
    use, budget = Use(prompt=256, generated=32768), Budget(top=1024)
    assert tera(cost_of(QWEN3["8B"], use, budget, compat="official")) == pytest.approx((556.705, 2807.600), abs=6e-4)
    assert touched(1024, use, compat="official") == 33_849_344
    assert touched(1024, use) == 33_259_520


@given(use=USES, keys=st.integers(1, 60000))
def test_touched_pairs_are_the_sum_of_what_each_token_reads(use: Use, keys: int) -> None:
    wanted = float(torch.arange(use.prompt, use.prompt + use.generated).clamp(max=keys).sum())
    edge = min(
        keys, use.prompt + use.generated
    )  # the integral counts half a key more a token, until the budget is full
    assert abs(touched(keys, use) - wanted) <= edge / 2 + use.generated / 2
    if keys <= use.prompt:
        assert touched(keys, use) == keys * use.generated
    if keys >= use.prompt + use.generated:
        assert touched(keys, use) == use.prompt * use.generated + use.generated**2 / 2


@given(shape=SHAPES, use=USES, keys=st.integers(1, 60000))
def test_laws_of_cost(shape: Shape, use: Use, keys: int) -> None:
    alone = Use(prompt=use.prompt, generated=use.generated)
    dense, one, sparse = cost_of(shape, use), cost_of(shape, alone), cost_of(shape, use, Budget(top=keys))
    assert dense.compute == pytest.approx(use.trials * one.compute)
    width = shape.kv_heads * shape.head_dim * shape.layers
    assert dense.memory == pytest.approx(2 * use.generated * width * (2 * use.prompt + use.trials * use.generated))
    assert dense.equivalent(0) == dense.compute
    assert sparse.compute <= dense.compute * (1 + 1e-12)
    if use.prompt == 0 or use.trials == 1:
        assert sparse.memory <= dense.memory * (1 + 1e-12)


def test_a_shared_prompt_may_be_cheaper_dense() -> None:
    """Each trial reads its own keys of a budget, a dense prompt is read once for all."""
    use = Use(prompt=4096, generated=64, trials=32)
    assert cost_of(QWEN3["8B"], use, Budget(top=2048)).memory > cost_of(QWEN3["8B"], use).memory


def test_where_attention_passes_the_linear_layers() -> None:
    assert crossover(QWEN3["8B"]) == pytest.approx(392.2, abs=0.05)
    for shape in QWEN3.values():
        tokens = crossover(shape)
        linear = 2 * shape.parameters * tokens
        wide = shape.heads * shape.head_dim * shape.layers
        attention = 2 * tokens**2 * wide + B200 * shape.kept * tokens**2
        assert attention == pytest.approx(linear)


def test_bytes_of_the_cache() -> None:
    wanted = {"0.6B": 114688, "1.7B": 114688, "4B": 147456, "8B": 147456, "14B": 163840, "32B": 262144}
    assert {name: shape.bytes_per_token for name, shape in QWEN3.items()} == wanted
    assert QWEN3["8B"].weight_bytes == 16.38e9
    assert [QWEN3[name].bytes_per_token * 32768 / 2**30 for name in ("0.6B", "32B")] == [3.5, 8.0]


@given(trials=st.integers(1, 40), data=st.data())
def test_coverage_rises_with_answers(trials: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, trials))
    found = [pass_at(k, trials=trials, correct=correct) for k in range(1, trials + 1)]
    assert found[0] == pytest.approx(correct / trials)
    assert all(a <= b + 1e-12 for a, b in pairwise(found))
    assert all(value == 1 for k, value in enumerate(found, start=1) if trials - correct < k)


def test_shapes_of_configs() -> None:
    tiny = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    found = shape_of(Qwen3Config(**tiny, **heads, tie_word_embeddings=True))
    assert (found.layers, found.heads, found.kv_heads, found.head_dim, found.kept) == (2, 4, 2, 8, 64)
    layer = 32 * 32 * 2 + 2 * 32 * 16 + 16 + 3 * 32 * 48 + 64
    assert found.parameters == 50 * 32 + 2 * layer + 32
    experts = {"num_experts": 4, "num_experts_per_tok": 1, "moe_intermediate_size": 8}
    mixed = shape_of(Qwen3MoeConfig(**tiny, **heads, **experts, tie_word_embeddings=True))
    expert, router = 3 * 32 * 8, 4 * 32
    assert mixed.parameters == 50 * 32 + 2 * (layer - 3 * 32 * 48 + expert + router) + 32
    latent = {"kv_lora_rank": 12, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8}
    few = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 8}
    deep = shape_of(DeepseekV3Config(**tiny, num_attention_heads=4, num_key_value_heads=4, **latent, **few))
    assert (deep.kept, deep.latent) == (2 * 16, 16)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Use(generated=0), "generated=0 must be a whole number of at least 1"),
        (lambda: Use(generated=4, trials=0), "trials=0 must be"),
        (lambda: Use(generated=4, prompt=-1), "prompt=-1 must be"),
        (lambda: Budget(), "top=0 and local=0 leave no key"),
        (lambda: Budget(top=10, block=4), "top=10 must be a multiple of block=4"),
        (lambda: Budget(top=10, block=0), "block=0 must be"),
        (lambda: Shape(parameters=1, layers=1, heads=3, kv_heads=2, head_dim=1), "heads=3 must be a multiple of kv_he"),
        (lambda: pass_at(3, trials=2, correct=1), "k=3 and correct=1 must not exceed trials=2"),
        (lambda: graded([0, 0.5]), r"scores holds 0.5; give 0 for wrong"),
        (
            lambda: cost_of(QWEN3["4B"], Use(generated=1)).equivalent(-1),
            "intensity=-1 FLOPs a byte must not be negative",
        ),
    ],
)
def test_what_cannot_be_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_percent_and_shares_are_graded_alike() -> None:
    assert graded([0, 1, 100]) == [False, True, True]


def test_an_intensity_of_another_unit_warns() -> None:
    for wrong in (0.5, 4.5e15):
        with pytest.warns(UserWarning, match="divide FLOP/s by byte/s"):
            cost_of(QWEN3["4B"], Use(generated=1)).equivalent(wrong)
