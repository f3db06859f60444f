from __future__ import annotations

import torch
from torch.nn import functional as F

from cer_fusion.fusion.heads.tokens import Block, ClassToken, TokensNetwork


def test_attention_is_pytorchs_own():
    block = Block(2, 8, 4)
    asked = torch.randn(2, 5 * 3, 24, generator=torch.Generator().manual_seed(0))
    found = block._attended(asked, 3).view(2, 5, 3, 8)
    for member in range(2):
        queries, keys, values = (
            part.view(5, 3, 4, 2).transpose(1, 2) for part in asked[member].view(5, 3, 24).split(8, dim=-1)
        )
        expected = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).reshape(5, 3, 8)
        torch.testing.assert_close(found[member], expected)


def test_the_class_token_stands_first_for_every_row():
    token = ClassToken(2, 4)
    token.draw(torch.Generator().manual_seed(0))
    found = token(torch.zeros(2, 5, 3, 4))
    assert found.shape == (2, 5, 4, 4)
    assert (found[:, :, 0] == token.token[:, :, 0]).all()
    assert (found[:, :, 1:] == 0).all()


def test_rows_do_not_see_each_other():
    network = TokensNetwork({"vit": 3, "manet": 2}, 3, members=2, width=8, layers=2, heads=2)
    network.draw_all(torch.Generator().manual_seed(0))
    rows = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(network.logits(rows)[:, :2], network.logits(rows[:2]))
