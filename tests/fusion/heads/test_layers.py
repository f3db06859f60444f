from __future__ import annotations

import pytest
import torch
from cer_fusion.fusion.heads.layers import Dropout, Linear, Norm, Projections, unchanged
from torch.nn import functional as F

WIDTHS = {"vit": 5, "manet": 3}


def drawn(layer):
    layer.draw(torch.Generator().manual_seed(0))
    return layer


def test_a_linear_layer_is_one_of_pytorchs_a_member():
    layer, z = drawn(Linear(2, 4, 3)), torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([F.linear(z[i], layer.weight[i].T, layer.bias[i, 0]) for i in range(2)])
    torch.testing.assert_close(layer(z), expected)
    assert layer.weight.abs().max() <= 4**-0.5
    assert not torch.equal(layer.weight[0], layer.weight[1])


def test_projections_are_a_linear_layer_a_block_and_member():
    layer, rows = drawn(Projections(2, WIDTHS, 4)), torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    found = layer(rows)
    assert found.shape == (2, 6, 2, 4)
    for member in range(2):
        for block, place in enumerate((slice(0, 5), slice(5, 8))):
            weight = layer.weight[place, 4 * member : 4 * member + 4]
            torch.testing.assert_close(found[member, :, block], rows[:, place] @ weight + layer.bias[member, :, block])


def test_a_norm_is_layer_normalisation_with_a_scale_a_member():
    layer, z = drawn(Norm(2, 8)), torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(layer(z), F.layer_norm(z, (8,)))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(share):
    drop = Dropout(share, torch.Generator().manual_seed(0))
    found = drop(torch.ones(200, 200))
    assert abs(float((found == 0).float().mean()) - share) < 0.01
    assert abs(float(found.mean()) - 1) < 0.05
    assert not torch.equal(found, drop(torch.ones(200, 200)))


def test_no_dropout_leaves_all_as_it_is():
    z = torch.ones(3)
    assert Dropout(0, torch.Generator())(z) is z
    assert unchanged(z) is z
