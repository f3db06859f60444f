from __future__ import annotations

import numpy as np
from hypothesis import given, strategies

from cer_fusion.backbones.finetuning.examples import batches, draws, epoch_order, step_seed

Y = np.array([0] * 20 + [1] * 3 + [2] * 7)


def test_an_epoch_has_every_example_once_in_an_order_of_its_own():
    first, second = (epoch_order(Y, seed=0, epoch=epoch) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(30))
    assert first.tolist() != second.tolist()
    assert first.tolist() == epoch_order(Y, seed=0, epoch=0).tolist()


def test_balanced_sampling_draws_every_class_equally_often_and_its_members_in_turn():
    order = epoch_order(Y, seed=3, epoch=0, sampling="balanced")
    assert np.bincount(Y[order]).tolist() == [10, 10, 10]
    assert set(np.bincount(order, minlength=30)[20:23]) <= {3, 4}


@given(n=strategies.integers(1, 500), size=strategies.integers(2, 64))
def test_batches_leave_nothing_out_and_none_is_much_smaller(n, size):
    cut = batches(np.arange(n), size)
    lengths = {len(batch) for batch in cut}
    assert np.concatenate(cut).tolist() == list(range(n))
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1


def test_random_numbers_depend_on_seed_epoch_and_position_alone():
    whole = draws(range(10), 4, seed=1, epoch=2)
    assert (draws([7, 3], 4, seed=1, epoch=2) == whole[[7, 3]]).all()
    assert (draws(range(10), 4, seed=1, epoch=3) != whole).all()
    assert (draws(range(10), 4, seed=2, epoch=2) != whole).all()


def test_steps_and_processes_have_seeds_of_their_own():
    seeds = {step_seed(seed=0, epoch=e, step=s, process=p) for e in range(3) for s in range(3) for p in range(3)}
    assert len(seeds) == 27
