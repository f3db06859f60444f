from __future__ import annotations

import pytest
import torch
from cer_fusion.fusion.heads.mlp_network import Gate, Network, Shape
from torch.nn import functional as F

CPU = torch.device("cpu")


def network(hidden: tuple[int, ...], dtype: torch.dtype = torch.float32, normalized: bool = False) -> Network:
    shape = Shape(inputs=6, hidden=hidden, classes=3, members=2, normalized=normalized)
    return Network(shape, generator=torch.Generator().manual_seed(0), device=CPU, dtype=dtype)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
def test_hand_written_gradients_are_those_of_automatic_differentiation(hidden, normalized):
    net = network(hidden, normalized=normalized)
    for number, norm in enumerate(net.norms):
        norm.scale += 0.1 * torch.randn(norm.scale.shape, generator=torch.Generator().manual_seed(number))
        norm.shift += 0.1
    rows, codes = torch.randn(7, 6, generator=torch.Generator().manual_seed(1)), torch.arange(7) % 3
    gates = [Gate(2, 8, width, dropout=0.3, generator=torch.Generator().manual_seed(2), device=CPU) for width in hidden]
    logits, inputs, passes = net.forward(rows, gates)
    net.backward(rows, (logits.softmax(-1) - F.one_hot(codes, 3)) / 7, inputs, passes)
    found = [parameter.grad.clone() for parameter in net.parameters()]

    leaves = [parameter.detach().clone().requires_grad_() for parameter in net.parameters()]
    layers = len(hidden) + 1
    weights, biases, norms = leaves[:layers], leaves[layers : 2 * layers], leaves[2 * layers :]
    z = F.linear(rows, weights[0], biases[0]).view(7, 2, -1).transpose(0, 1)
    for number, (weight, bias, factor) in enumerate(zip(weights[1:], biases[1:], passes, strict=True)):
        if normalized:
            z = F.layer_norm(z, z.shape[-1:]) * norms[number] + norms[number + len(hidden)]
        z = torch.baddbmm(bias, z * factor, weight)
    torch.testing.assert_close(z, logits)
    loss = F.cross_entropy(z.reshape(-1, 3), codes.repeat(2), reduction="sum") / 7
    for gradient, expected in zip(found, torch.autograd.grad(loss, leaves), strict=True):
        torch.testing.assert_close(gradient, expected)


def test_bfloat16_products_stay_close_to_float32():
    rows = torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    exact, rounded = network((5,)).logits(rows), network((5,), torch.bfloat16).logits(rows)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, atol=2e-2, rtol=2e-2)


def test_a_gate_is_relu_alone_without_dropout():
    gate = Gate(2, 4, 3, dropout=0.0, generator=torch.Generator(), device=CPU)
    z = torch.randn(2, 4, 3)
    torch.testing.assert_close(z * gate(z), z.relu())


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_a_gate_drops_its_share_and_keeps_the_mean(dropout):
    gate = Gate(2, 200, 101, dropout=dropout, generator=torch.Generator().manual_seed(0), device=CPU)
    factor = gate(torch.ones(2, 200, 101))
    assert abs(float((factor == 0).float().mean()) - dropout) < 0.01
    assert abs(float(factor.mean()) - 1) < 0.05
    assert not torch.equal(factor[:, :100].clone(), gate(torch.ones(2, 200, 101))[:, :100])


def test_a_last_small_batch_passes_the_gate():
    gate = Gate(2, 8, 3, dropout=0.5, generator=torch.Generator().manual_seed(0), device=CPU)
    assert gate(torch.ones(2, 5, 3)).shape == (2, 5, 3)
