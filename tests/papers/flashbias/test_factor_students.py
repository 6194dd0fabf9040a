"""Factors learned from data: shapes, loss, what trains and what does not."""

import pytest
import torch

from saccade.core.biases import LowRank
from saccade.papers.flashbias.factor_students import FactorStudents, distillation_loss, fit_students, pair_features

N, HEADS = 12, 2


def test_students_have_six_linear_maps_without_biases() -> None:
    students = FactorStudents(7, heads=HEADS, rank=5, hidden=16)
    shapes = [tuple(p.shape) for p in students.query.parameters()]
    assert shapes == [(16, 7), (16, 16), (HEADS * 5, 16)] and len(list(students.parameters())) == 6
    bias = students(torch.randn(3, N, 7), torch.randn(3, N + 1, 7))
    assert bias.phi_q.shape == (3, HEADS, N, 5) and bias.phi_k.shape == (3, HEADS, N + 1, 5)


def test_the_loss_is_the_mean_square_summed_over_layers_and_spares_the_teacher() -> None:
    layers = [LowRank(*(torch.randn(1, HEADS, N, 3, requires_grad=True) for _ in range(2))) for _ in range(2)]
    teachers = [torch.randn(1, HEADS, N, N, requires_grad=True) for _ in range(2)]
    loss = distillation_loss(layers, teachers)
    wanted = sum(((s.phi_q @ s.phi_k.mT - t) ** 2).mean() for s, t in zip(layers, teachers, strict=True))
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    assert all(t.grad is None for t in teachers) and all(s.phi_q.grad is not None for s in layers)


def test_students_learn_a_bias_that_their_features_determine() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, N, 3)
    teacher = torch.stack([-s * torch.cdist(x, x)[0] ** 2 for s in (0.1, 0.2)])[None]
    students = FactorStudents(3, heads=HEADS, rank=8, hidden=32)
    losses = fit_students(students, lambda step: (x, x, teacher), steps=100, lr=1e-2)
    assert losses[-1] < 0.5 * losses[0]


def test_only_the_students_train() -> None:
    x, teacher = torch.randn(1, N, 3, requires_grad=True), torch.randn(1, HEADS, N, N, requires_grad=True)
    fit_students(FactorStudents(3, heads=HEADS, rank=2, hidden=8), lambda step: (x, x, teacher), steps=2)
    assert x.grad is None and teacher.grad is None


def test_pair_features_are_means_of_rows_and_columns() -> None:
    z, single = torch.randn(1, N, N, 4), torch.randn(1, N, 2)
    query, key = pair_features(z, single, single)
    torch.testing.assert_close(query[0, 3], torch.cat((z[0, 3].mean(0), single[0, 3])))
    torch.testing.assert_close(key[0, 3], torch.cat((z[0, :, 3].mean(0), single[0, 3])))


def test_bad_steps_are_named() -> None:
    with pytest.raises(ValueError, match="steps=0 must be at least 1"):
        fit_students(FactorStudents(3, heads=1, rank=1), lambda step: (torch.zeros(()),) * 3, steps=0)
