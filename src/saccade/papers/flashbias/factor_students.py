"""Factors from data: two small networks learn phi_q and phi_k of a bias that is itself computed from the input.

    phi_q = MLP_q(x_i), phi_k = MLP_k(y_j),   loss = mean (phi_q phi_k^T - teacher)^2
The teacher's bias needs all n m pairs; the students see one feature vector per token. For a pair tensor z (as in
triangle attention) `pair_features` gives each token the mean of its row, or column, and its own features; structure of
z that these means do not carry cannot be learnt.
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.core.biases import LowRank

Batch = tuple[Tensor, Tensor, Tensor]  # query features (b n f), key features (b m f), teacher's bias (b h n m)


class FactorStudents(nn.Module):
    """Query and key networks: Linear tanh Linear tanh Linear, without biases, to `heads` times `rank` columns."""

    def __init__(self, features: int, *, heads: int, rank: int = 96, hidden: int = 256) -> None:
        super().__init__()
        self.heads, self.rank = heads, rank
        self.query, self.key = (_network(features, hidden, heads * rank) for _ in range(2))

    def forward(self, x: Float[Tensor, "b n f"], y: Float[Tensor, "b m f"]) -> LowRank:
        return LowRank(self._heads(self.query(x)), self._heads(self.key(y)))

    def _heads(self, columns: Tensor) -> Float[Tensor, "b h n r"]:
        return columns.unflatten(-1, (self.heads, self.rank)).transpose(1, 2)


def pair_features(
    z: Float[Tensor, "b n m c"], single_q: Float[Tensor, "b n s"], single_k: Float[Tensor, "b m s"]
) -> tuple[Float[Tensor, "b n c+s"], Float[Tensor, "b m c+s"]]:
    """Per token: the mean of its row (queries) or column (keys) of the normalised pair tensor, and its own features."""
    return torch.cat((z.mean(dim=2), single_q), dim=-1), torch.cat((z.mean(dim=1), single_k), dim=-1)


def distillation_loss(students: Iterable[LowRank], teachers: Iterable[Float[Tensor, "b h n m"]]) -> Float[Tensor, ""]:
    """Mean squared difference, summed over layers; no gradient reaches the teachers. n m memory, in training only."""
    gaps = [s.phi_q @ s.phi_k.mT - t.detach() for s, t in zip(students, teachers, strict=True)]
    return torch.stack([gap.square().mean() for gap in gaps]).sum()


def fit_students(
    students: FactorStudents, batch: Callable[[int], Batch], *, steps: int, lr: float = 1e-3
) -> list[float]:
    """Train on `batch(step)` with Adam; returns the loss before each step. Only the students' weights change.

    Raises ValueError for fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1")
    optimiser = torch.optim.Adam(students.parameters(), lr=lr)
    losses = []
    for step in range(steps):
        x, y, teacher = batch(step)
        loss = distillation_loss([students(x.detach(), y.detach())], [teacher])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def _network(features: int, hidden: int, columns: int) -> nn.Sequential:
    sizes = (features, hidden, hidden, columns)
    layers = [nn.Linear(a, b, bias=False) for a, b in zip(sizes, sizes[1:], strict=False)]
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])
