"""Parts of a head that are fitted side by side."""

from __future__ import annotations

import threading

import pytest
import torch
from cer_fusion.fusion.heads.devices import side_by_side, threads_set_to


def test_parts_come_back_in_order_and_a_round_is_fitted_at_once():
    meet = threading.Barrier(2, timeout=60)
    found = []

    def fit(part: int) -> int:
        if part < 4:
            meet.wait()  # passed only if two parts are under way
        found.append((part, torch.get_num_threads()))
        return 10 * part

    with threads_set_to(2):
        assert side_by_side(fit, range(5), threads=2) == [0, 10, 20, 30, 40]
        assert torch.get_num_threads() == 2
    assert sorted(found) == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2)]


def test_one_thread_fits_one_part_after_the_other():
    here = threading.get_ident()
    assert side_by_side(lambda part: (part, threading.get_ident()), "ab", threads=1) == [("a", here), ("b", here)]


def test_a_part_that_fails_fails_the_fit_and_leaves_the_threads_as_they_were():
    def fit(part: int) -> int:
        raise ValueError(f"part {part}")

    with threads_set_to(2):
        with pytest.raises(ValueError, match="part 0"):
            side_by_side(fit, range(3), threads=2)
        assert torch.get_num_threads() == 2
