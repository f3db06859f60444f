from __future__ import annotations

import torch
from torch.nn import functional as F

from cer_fusion.fusion.heads.layers import unchanged
from cer_fusion.fusion.heads.tabm import TabMNetwork


def network() -> TabMNetwork:
    found = TabMNetwork((6, 5, 4), 3, members=3)
    found.draw_all(torch.Generator().manual_seed(0))
    return found


def test_a_member_is_a_perceptron_whose_weights_are_the_shared_ones_times_its_adapters():
    net, rows = network(), torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for layer in net.hidden:
            layer.r.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(2))
            layer.s.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(3))
    for member in range(3):
        z = rows
        for layer in net.hidden:
            weight = layer.r[member].T * layer.weight * layer.s[member]
            z = (z @ weight + layer.bias[member]).relu()
        expected = F.linear(z, net.answer.weight[member].T, net.answer.bias[member, 0])
        torch.testing.assert_close(net.logits(rows)[member], expected)


def test_adapters_begin_at_one_but_for_random_signs_of_the_first():
    first, second = network().hidden
    assert set(first.r.unique().tolist()) == {-1.0, 1.0}
    assert not torch.equal(first.r[0], first.r[1])
    for adapter in (first.s, second.r, second.s):
        assert (adapter == 1).all()


def test_members_learn_from_their_own_answers_only_and_share_the_rest():
    net, rows = network(), torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    net(rows, unchanged)[0].sum().backward()
    first = net.hidden[0]
    assert first.weight.grad.abs().max() > 0
    assert first.s.grad[0].abs().max() > 0
    assert (first.s.grad[1:] == 0).all()
