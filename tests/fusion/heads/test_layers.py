from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cer_fusion.fusion.heads.layers import Dropout, Joined, Linear, Norm, Projections, unchanged

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


def test_a_layer_on_the_same_rows_is_one_of_pytorchs_a_member():
    layer, rows = drawn(Joined(2, 4, 3)), torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([F.linear(rows, layer.weight[3 * i : 3 * i + 3], layer.bias[i, 0]) for i in range(2)])
    torch.testing.assert_close(layer(rows), expected)
    assert layer.weight.abs().max() <= 4**-0.5


def test_bfloat16_products_stay_close_to_float32_in_values_and_gradients():
    layer, rows = drawn(Joined(2, 6, 5)), torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    exact, rounded = layer(rows), layer(rows.bfloat16())
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, atol=2e-2, rtol=2e-2)
    gradients = [torch.autograd.grad(z.square().sum(), layer.weight)[0] for z in (rounded, exact)]
    assert gradients[0].dtype == torch.float32
    torch.testing.assert_close(*gradients, atol=0.2, rtol=2e-2)


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
    found = drop(torch.ones(2, 200, 101))
    assert abs(float((found == 0).float().mean()) - share) < 0.01
    assert abs(float(found.mean()) - 1) < 0.05
    assert not torch.equal(found, drop(torch.ones(2, 200, 101)))


def test_dropout_draws_from_its_own_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, other = (Dropout(0.5, torch.Generator().manual_seed(3))(torch.ones(5, 3)) for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())


def test_no_dropout_leaves_all_as_it_is():
    z = torch.ones(3)
    assert Dropout(0, torch.Generator())(z) is z
    assert unchanged(z) is z
