from __future__ import annotations

import numpy as np
import pytest
import torch

from cer_fusion.backbones import Recipe
from cer_fusion.backbones.finetuning.examples import DRAWS, augment

STILL = Recipe.paper().changed({"flip": False})


def pictures(n: int = 6, side: int = 24) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, side, side, 3)).astype(np.uint8))


def numbers(n: int = 6) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).random((n, DRAWS)).astype(np.float32))


def test_a_recipe_without_augmentation_leaves_pictures_alone():
    assert torch.equal(augment(pictures(), numbers(), STILL), pictures())


def test_half_of_the_pictures_are_mirrored():
    u = numbers()
    u[:, 0] = torch.tensor([0.1, 0.9, 0.4, 0.6, 0.49, 0.51])
    out = augment(pictures(), u, Recipe.paper())
    assert torch.equal(out[::2], pictures()[::2].flip(2))
    assert torch.equal(out[1::2], pictures()[1::2])


def test_a_picture_is_changed_the_same_way_in_any_batch():
    x, u = pictures(), numbers()
    whole = augment(x, u, Recipe())
    alone = torch.cat([augment(x[i : i + 1], u[i : i + 1], Recipe()) for i in range(6)])
    assert (whole.int() - alone.int()).abs().max() <= 1
    assert not torch.equal(whole, x)


def test_grey_pictures_stay_grey():
    grey = pictures()[..., :1].expand(-1, -1, -1, 3).contiguous()
    out = augment(grey, numbers(), Recipe()).int()
    assert (out.amax(-1) - out.amin(-1)).max() <= 1


def test_a_crop_enlarges_a_part_of_the_picture():
    x = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    x[:, :8] = 255
    u = torch.full((1, DRAWS), 0.5)
    u[0, 4] = 0.999
    bottom = augment(x, u, STILL.changed({"crop_area": [0.25, 0.25]}))
    assert bottom.max() == 0
    u[0, 4] = 0.0
    assert augment(x, u, STILL.changed({"crop_area": [0.25, 0.25]}))[0, :12].min() == 255


def test_a_quarter_turn_moves_the_top_to_a_side():
    x = torch.zeros(1, 33, 33, 3, dtype=torch.uint8)
    x[:, :5, 10:23] = 255
    u = torch.full((1, DRAWS), 1.0)
    out = augment(x, u, STILL.changed({"rotation_deg": 90}))[0, :, :, 0]
    assert torch.equal(out, torch.rot90(x[0, :, :, 0], 1)) or torch.equal(out, torch.rot90(x[0, :, :, 0], -1))


@pytest.mark.parametrize("change", [{"brightness": 0.5}, {"contrast": 0.5}, {"saturation": 0.5}, {"grey": 1.0}])
def test_every_colour_change_changes_colours(change):
    assert not torch.equal(augment(pictures(), numbers(), STILL.changed(change)), pictures())


def test_erasing_covers_one_rectangle_of_at_most_a_fifth():
    x, u = pictures(40), numbers(40)
    out = augment(x, u, STILL.changed({"erasing": 1.0}))
    share = (out != x).any(-1).float().mean((1, 2))
    assert (share > 0.005).all()
    assert (share < 0.25).all()
